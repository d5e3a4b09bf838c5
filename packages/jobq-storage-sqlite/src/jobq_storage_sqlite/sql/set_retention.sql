INSERT INTO jobq_retention (queue, completed, failed, aborted)
VALUES (?, ?, ?, ?)
ON CONFLICT (queue) DO UPDATE
SET completed = excluded.completed, failed = excluded.failed, aborted = excluded.aborted
