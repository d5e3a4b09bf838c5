INSERT INTO jobq_retention (queue, completed, failed, aborted)
VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (queue) DO UPDATE
SET completed = excluded.completed, failed = excluded.failed, aborted = excluded.aborted
