SELECT number, lease, worker, started_at, finished_at, type, message, traceback
FROM jobq_attempt
WHERE n = ?
ORDER BY lease
