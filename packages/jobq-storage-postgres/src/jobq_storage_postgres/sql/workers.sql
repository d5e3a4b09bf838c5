-- List the registered workers, oldest first.
SELECT id, name, host, pid, queues, kinds, concurrency, lost_after, started_at, beat_at, expires_at, stats,
    versions
FROM jobq.worker
ORDER BY started_at, id
