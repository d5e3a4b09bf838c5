-- The maintenance that one worker does for all: promote, rescue, prune.

-- name: find_due
SELECT n, queue, flags
FROM jobq_life
WHERE reason IS NOT NULL AND state IN ('scheduled', 'blocked') AND run_at <= ?
ORDER BY run_at, n
LIMIT ?

-- name: find_next_due
SELECT min(run_at) FROM jobq_life WHERE reason IS NOT NULL AND state IN ('scheduled', 'blocked')

-- name: find_lost_workers
-- The registered workers whose heartbeat expired by :uptime, and those of PROCESSING jobs that are not registered; by a
-- jump from each holder of jobs to the next.
WITH RECURSIVE holder (worker) AS (
    SELECT min(worker) FROM jobq_life WHERE state = 'processing'
    UNION ALL
    SELECT (
        SELECT min(life.worker) FROM jobq_life AS life WHERE life.state = 'processing' AND life.worker > holder.worker
    )
    FROM holder
    WHERE holder.worker IS NOT NULL
)
SELECT id FROM jobq_worker WHERE abs(:uptime - beat_uptime) >= lost_after
UNION
SELECT worker FROM holder WHERE worker IS NOT NULL AND worker NOT IN (SELECT id FROM jobq_worker)

-- name: find_next_live_loss
-- Parameter: the uptime. In how many microseconds the next worker that lives could expire.
SELECT min(remains) FROM (SELECT lost_after - abs(? - beat_uptime) AS remains FROM jobq_worker) WHERE remains > 0

-- name: delete_lost_worker
-- Parameters: the worker, the uptime.
DELETE FROM jobq_worker WHERE id = ? AND abs(? - beat_uptime) >= lost_after RETURNING name, beat_at, beat_uptime

-- name: is_registered
SELECT 1 FROM jobq_worker WHERE id = ?

-- name: find_orphans
-- The jobs that a worker holds. The last column: whether the run counts as started. A first attempt of several is not
-- marked when it starts, and counts as started.
SELECT job.id, life.n, life.queue, job.kind, life.flags, life.unique_key, life.lease, life.worker,
    max(life.started_at - life.since, 0), life.started_at, life.attempt, life.request, job.max_attempts,
    life.started_lease IS life.lease OR (life.attempt = 1 AND job.max_attempts > 1)
FROM jobq_life AS life CROSS JOIN jobq_job AS job ON job.n = life.n
WHERE life.state = 'processing' AND life.worker = ?
ORDER BY life.lease

-- name: end
-- End a job whose worker was lost, or whose deadline passed. Parameters: the state, its reason, now, the lease of the
-- job's error, the job's number.
UPDATE jobq_life SET state = ?, reason = ?, finished_at = ?, error_lease = ?, request = NULL WHERE n = ?

-- name: disable_rescued
UPDATE jobq_life SET state = 'disabled', reason = 'disabled', since = ?, error_lease = ?, request = NULL WHERE n = ?

-- name: give_back
-- Do not count an attempt whose run never started.
UPDATE jobq_life SET attempt = attempt - 1 WHERE n = ?

-- name: find_expired
-- Jobs whose deadline passed before they started. Parameters: now, the limit.
SELECT job.id, life.n, life.queue, job.kind, life.flags, life.unique_key
FROM jobq_life AS life CROSS JOIN jobq_job AS job ON job.n = life.n
WHERE life.deadline IS NOT NULL AND life.finished_at IS NULL AND life.deadline <= ?
    AND (life.state IN ('scheduled', 'blocked') OR life.state = 'pending')
ORDER BY life.deadline
LIMIT ?

-- name: find_next_deadline
SELECT deadline FROM jobq_life
WHERE deadline IS NOT NULL AND finished_at IS NULL AND (state IN ('scheduled', 'blocked') OR state = 'pending')
ORDER BY deadline
LIMIT 1

-- name: find_gated
-- Parameter: the id.
SELECT life.n, life.queue, life.flags
FROM jobq_job AS job JOIN jobq_life AS life ON life.n = job.n
WHERE job.id = ? AND life.state = 'blocked' AND life.reason = 'gated'

-- name: find_ended
SELECT n, id, queue, state, at, failed FROM jobq_ended ORDER BY n LIMIT ?

-- name: delete_ended
-- Parameter: the last number.
DELETE FROM jobq_ended WHERE n <= ?

-- name: delete_audit
-- Parameters: the time after which entries are kept, the limit.
DELETE FROM jobq_audit WHERE id IN (SELECT id FROM jobq_audit WHERE at <= ? LIMIT ?)

-- name: delete_operations
-- Parameters: the time after which operations that are over are kept, the limit.
DELETE FROM jobq_operation WHERE id IN (SELECT id FROM jobq_operation WHERE finished_at <= ? LIMIT ?)

-- name: delete_requests
-- Parameters: the time after which requests are kept, the limit.
DELETE FROM jobq_worker_request WHERE id IN (SELECT id FROM jobq_worker_request WHERE asked_at <= ? LIMIT ?)

-- name: oldest_job
SELECT min(id) FROM jobq_job

-- name: delete_spans
-- Parameters: the first span that is kept, the limit.
DELETE FROM jobq_span WHERE (what, name, span) IN (SELECT what, name, span FROM jobq_span WHERE span < ? LIMIT ?)

-- name: count_pruning
UPDATE jobq_sequence SET prunings = prunings + 1 WHERE one = 1

-- name: find_prunable
-- The queues and states that have finished jobs to remove, and the time before which they ended. :completed, :failed and
-- :aborted: how long jobs are kept in queues that say nothing else; NULL: without limit. By a jump from each queue to
-- the next: as many steps as there are queues, however many jobs finished.
WITH RECURSIVE found (queue) AS (
    SELECT min(queue) FROM jobq_life WHERE finished_at IS NOT NULL
    UNION ALL
    SELECT (SELECT min(life.queue) FROM jobq_life AS life WHERE life.finished_at IS NOT NULL AND life.queue > found.queue)
    FROM found
    WHERE found.queue IS NOT NULL
), limits (queue, state, ended) AS (
    SELECT found.queue, ending.column1, :now - CASE
        WHEN retention.owner IS NULL THEN ending.column2
        WHEN ending.column1 = 'completed' THEN retention.completed
        WHEN ending.column1 = 'failed' THEN retention.failed
        ELSE retention.aborted
    END
    FROM found
    CROSS JOIN (VALUES ('completed', :completed), ('failed', :failed), ('aborted', :aborted)) AS ending
    LEFT JOIN jobq_queue AS retention ON retention.queue = found.queue
    WHERE found.queue IS NOT NULL
)
SELECT queue, state, ended
FROM limits
WHERE ended IS NOT NULL AND EXISTS (
    SELECT 1 FROM jobq_life AS life
    WHERE life.finished_at IS NOT NULL AND life.queue = limits.queue AND life.state = limits.state
        AND life.finished_at <= limits.ended
)

-- name: find_finished
-- A queue's jobs in a state that finished at or before a time, oldest first.
SELECT n FROM jobq_life WHERE queue = ? AND state = ? AND finished_at <= ? ORDER BY finished_at LIMIT ?
