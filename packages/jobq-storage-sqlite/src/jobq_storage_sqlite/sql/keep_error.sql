INSERT INTO jobq_attempt (n, lease, number, worker, started_at, finished_at, type, message, traceback)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
