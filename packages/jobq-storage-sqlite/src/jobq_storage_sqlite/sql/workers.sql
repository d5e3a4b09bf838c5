-- Workers, their heartbeats and progress, and the lease on maintenance.

-- name: register
INSERT INTO jobq_worker
    (id, number, name, host, pid, queues, kinds, concurrency, lost_after, versions, stats, started_at, beat_at,
    beat_uptime)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE
SET name = excluded.name, host = excluded.host, pid = excluded.pid, queues = excluded.queues, kinds = excluded.kinds,
    concurrency = excluded.concurrency, lost_after = excluded.lost_after, versions = excluded.versions,
    beat_at = excluded.beat_at, beat_uptime = excluded.beat_uptime

-- name: deregister
DELETE FROM jobq_worker WHERE id = ?

-- name: beat
UPDATE jobq_worker SET stats = ?, beat_at = ?, beat_uptime = ? WHERE id = ?

-- name: workers
SELECT id, name, host, pid, queues, kinds, concurrency, lost_after, versions, stats, started_at, beat_at,
    beat_at + lost_after
FROM jobq_worker
ORDER BY number

-- name: progress
UPDATE jobq_life
SET percent = ?, message = ?, details = ?
WHERE n = (SELECT n FROM jobq_job WHERE id = ?) AND lease = ? AND state = 'processing'

-- name: lead
-- Take the lead where it is free, or renew it.
INSERT INTO jobq_leader (one, worker, uptime, term)
VALUES (1, ?, ?, ?)
ON CONFLICT (one) DO UPDATE
SET worker = excluded.worker, uptime = excluded.uptime, term = excluded.term
WHERE worker = excluded.worker OR abs(excluded.uptime - uptime) >= term

-- name: leader
SELECT worker, uptime + term FROM jobq_leader WHERE one = 1

-- name: resign
DELETE FROM jobq_leader WHERE worker = ?
