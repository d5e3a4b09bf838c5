-- Settling and claiming: the path that every job takes.

-- name: is_worker_alive
-- Parameters: the uptime, the worker.
SELECT 1 FROM jobq_worker WHERE abs(? - beat_uptime) < lost_after AND id = ?

-- name: complete
-- Parameters: now, the result, the job's number, its lease.
UPDATE jobq_life
SET state = 'completed', settled = 'completed', finished_at = ?, result = ?, request = NULL, reason = NULL
WHERE n = ? AND lease = ? AND state = 'processing'

-- name: is_completed
-- Whether a run was completed at this time. Parameters: the job's number, its lease, the time.
SELECT 1 FROM jobq_life WHERE n = ? AND lease = ? AND state = 'completed' AND finished_at = ?

-- name: find_settled
-- The state that an earlier settlement under this lease led to.
SELECT life.settled
FROM jobq_job AS job JOIN jobq_life AS life ON life.n = job.n
WHERE job.id = ? AND life.lease = ?

-- name: find_run
-- The + keeps SQLite 3.53 from looking through all PROCESSING jobs after an ANALYZE.
SELECT job.id, life.n, life.queue, job.kind, life.flags, life.unique_key, max(life.started_at - life.since, 0),
    life.started_at, life.attempt, life.request, life.worker, life.run_at, life.position, life.urgency, life.error_lease, life.extra,
    job.priority
FROM jobq_job AS job JOIN jobq_life AS life ON life.n = job.n
WHERE job.id = ? AND life.lease = ? AND +life.state = 'processing'

-- name: settle
UPDATE jobq_life
SET state = ?, settled = ?, since = ?, urgency = ?, position = ?, attempt = ?, run_at = ?, reason = ?, finished_at = ?,
    error_lease = ?, extra = ?, request = NULL
WHERE n = ?

-- name: store_progress
UPDATE jobq_life SET percent = ?, message = ?, details = ? WHERE n = ?

-- name: insert_attempt
INSERT INTO jobq_attempt (n, lease, number, worker, started_at, finished_at, type, message, traceback)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_ended
INSERT INTO jobq_ended (id, queue, state, at, failed) VALUES (?, ?, ?, ?, ?)

-- name: find_follow_up
-- What is kept of a job that failed, for its follow-up. Parameter: its number.
SELECT kind, arguments, follow_up, meta, run_id FROM jobq_job WHERE n = ?

-- name: paused
SELECT queue FROM jobq_queue WHERE paused_at IS NOT NULL

-- name: find_ready_queues
-- The queues that have PENDING jobs, by a jump from each to the next.
WITH RECURSIVE found (queue) AS (
    SELECT min(queue) FROM jobq_life WHERE state = 'pending'
    UNION ALL
    SELECT (SELECT min(life.queue) FROM jobq_life AS life WHERE life.state = 'pending' AND life.queue > found.queue)
    FROM found
    WHERE found.queue IS NOT NULL
)
SELECT queue FROM found WHERE queue IS NOT NULL

-- name: claimed_job
-- The columns of a ClaimedJob but its lease and attempt.
job.id, life.queue, job.kind, job.arguments, job.max_attempts, job.priority, job.timeout, job.deadline, job.backoff,
    job.run_id, job.tags, job.meta

-- name: claim_heads
-- The heads of a queue's line. The join keeps the order of the tables: the line first, then what was added. A head
-- without a job, as another program can leave one behind, has no id.
SELECT life.n, life.since, life.flags, life.unique_key, min(life.attempt + 1, 32767), {claimed_job}
FROM jobq_life AS life LEFT JOIN jobq_job AS job ON job.n = life.n
WHERE life.state = 'pending' AND life.queue = ?
ORDER BY life.urgency, life.position
LIMIT ?

-- name: start
-- Parameters: the lease, the worker, now, the job's number.
UPDATE jobq_life
SET state = 'processing', lease = ?, worker = ?, started_at = ?, attempt = min(attempt + 1, 32767), settled = NULL,
    reason = NULL, percent = NULL, message = NULL, details = NULL
WHERE n = ?

-- name: mark_started
UPDATE jobq_life SET started_lease = lease
WHERE n = (SELECT n FROM jobq_job WHERE id = ?) AND lease = ? AND worker = ? AND state = 'processing'

-- name: find_claims
-- All jobs that a worker holds.
SELECT life.lease, life.attempt, {claimed_job}
FROM jobq_life AS life CROSS JOIN jobq_job AS job ON job.n = life.n
WHERE life.state = 'processing' AND life.worker = ?
ORDER BY life.lease

-- name: insert_suspended
INSERT OR IGNORE INTO jobq_suspended (queue, kind, refused, id, n) VALUES (?, ?, ?, ?, ?)

-- name: next_suspended_kind
-- The kinds of a queue's suspended jobs, one after the other.
SELECT kind FROM jobq_suspended WHERE queue = ? AND kind > ? ORDER BY kind LIMIT 1

-- name: next_refused
-- The declarations that refused a queue's suspended jobs of a kind, one array after the other.
SELECT refused FROM jobq_suspended WHERE queue = ? AND kind = ? AND refused > ? ORDER BY refused LIMIT 1

-- name: find_suspended
-- Suspended jobs of a queue and a kind that the same declarations refused. The last column: whether they are still.
SELECT suspended.id, suspended.n, life.flags, coalesce(
    life.queue = suspended.queue AND life.state = 'blocked' AND life.reason IN ('unknown kind', 'arguments do not fit')
        AND coalesce(json_extract(life.extra, '$.refused'), '[]') = suspended.refused, FALSE
)
FROM jobq_suspended AS suspended LEFT JOIN jobq_life AS life ON life.n = suspended.n
WHERE suspended.queue = ? AND suspended.kind = ? AND suspended.refused = ?
ORDER BY suspended.id
LIMIT ?

-- name: delete_suspended
DELETE FROM jobq_suspended WHERE queue = ? AND kind = ? AND refused = ? AND id = ?

-- name: free
-- Make a job PENDING, at a position of the line of an urgency. Parameters: the position, now, the urgency (NULL: that
-- of the job's priority), the job's number.
UPDATE jobq_life
SET state = 'pending', position = ?, since = ?,
    urgency = coalesce(?, -(SELECT priority FROM jobq_job WHERE n = jobq_life.n)), reason = NULL, request = NULL
WHERE n = ?

-- name: hold_gated
-- Keep a gated job back where another would become PENDING. Parameters: now, the job's number.
UPDATE jobq_life SET state = 'blocked', reason = 'gated', since = ?, run_at = NULL, request = NULL WHERE n = ?
