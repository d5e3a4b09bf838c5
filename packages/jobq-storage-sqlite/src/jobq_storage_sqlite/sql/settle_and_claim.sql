-- Settling and claiming: the path that every job takes.

-- name: is_worker_alive
-- Parameters: the uptime, the worker.
SELECT 1 FROM jobq_worker WHERE abs(? - beat_uptime) < lost_after AND id = ?

-- name: complete
-- Parameters: now, the result, the job, its lease.
UPDATE jobq_life
SET state = 'completed', settled = 'completed', finished_at = ?, result = ?, request = NULL, reason = NULL
WHERE n = (SELECT n FROM jobq_job WHERE id = ?) AND lease = ? AND state = 'processing'

-- name: find_settled
-- The state that an earlier settlement under this lease led to.
SELECT life.settled
FROM jobq_job AS job JOIN jobq_life AS life ON life.n = job.n
WHERE job.id = ? AND life.lease = ?

-- name: find_run
SELECT life.n, life.queue, life.request, life.attempt, life.worker, life.started_at, life.run_at, life.position,
    life.error_lease
FROM jobq_job AS job JOIN jobq_life AS life ON life.n = job.n
WHERE job.id = ? AND life.lease = ? AND life.state = 'processing'

-- name: settle
UPDATE jobq_life
SET state = ?, settled = ?, position = ?, attempt = ?, run_at = ?, reason = ?, finished_at = ?, error_lease = ?,
    request = NULL
WHERE n = ?

-- name: insert_attempt
INSERT INTO jobq_attempt (n, lease, number, worker, started_at, finished_at, type, message, traceback)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: claimed_job
-- The columns of a ClaimedJob but its lease and attempt.
job.id, life.queue, job.kind, job.arguments, job.max_attempts, life.urgency, job.timeout, job.deadline, job.backoff,
    job.run_id, job.tags

-- name: claim_heads
-- The heads of a queue's line. CROSS JOIN keeps the order of the tables: the line first, then what was added.
SELECT life.n, life.attempt + 1, {claimed_job}
FROM jobq_life AS life CROSS JOIN jobq_job AS job ON job.n = life.n
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
