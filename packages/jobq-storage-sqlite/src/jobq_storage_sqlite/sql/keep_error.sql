INSERT INTO jobq_attempt (n, lease, number, worker, started_at, finished_at, type, message, traceback)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
