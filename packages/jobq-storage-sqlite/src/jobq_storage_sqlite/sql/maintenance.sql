-- The maintenance that one worker does for all: promote, rescue, prune.

-- name: find_due
SELECT n, queue FROM jobq_life WHERE state IN ('scheduled', 'blocked') AND run_at <= ? ORDER BY run_at, n LIMIT ?

-- name: find_next_due
SELECT min(run_at) FROM jobq_life WHERE state IN ('scheduled', 'blocked')

-- name: find_lost_workers
SELECT id, name, beat_at, beat_uptime FROM jobq_worker WHERE abs(? - beat_uptime) >= lost_after ORDER BY number

-- name: delete_lost_workers
DELETE FROM jobq_worker WHERE abs(? - beat_uptime) >= lost_after

-- name: find_orphans
-- The jobs that no registered worker holds. The last column: whether the run counts as started. A first attempt of
-- several is not marked when it starts, and counts as started.
SELECT life.n, life.queue, life.lease, life.worker, life.started_at, life.attempt, life.request, job.id, job.kind,
    job.max_attempts, life.started_lease IS life.lease OR (life.attempt = 1 AND job.max_attempts > 1)
FROM jobq_life AS life CROSS JOIN jobq_job AS job ON job.n = life.n
WHERE life.state = 'processing' AND NOT EXISTS (SELECT 1 FROM jobq_worker AS worker WHERE worker.id = life.worker)
ORDER BY life.lease

-- name: end_rescued
-- Parameters: the state, its reason, now, the lease of the job's error, the job's number.
UPDATE jobq_life SET state = ?, reason = ?, finished_at = ?, error_lease = ?, request = NULL WHERE n = ?

-- name: disable_rescued
UPDATE jobq_life SET state = 'disabled', reason = 'disabled', request = NULL WHERE n = ?

-- name: give_back
-- Do not count an attempt whose run never started.
UPDATE jobq_life SET attempt = attempt - 1 WHERE n = ?

-- name: set_retention
INSERT INTO jobq_retention (queue, completed, failed, aborted)
VALUES (?, ?, ?, ?)
ON CONFLICT (queue) DO UPDATE
SET completed = excluded.completed, failed = excluded.failed, aborted = excluded.aborted

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
        WHEN retention.queue IS NULL THEN ending.column2
        WHEN ending.column1 = 'completed' THEN retention.completed
        WHEN ending.column1 = 'failed' THEN retention.failed
        ELSE retention.aborted
    END
    FROM found
    CROSS JOIN (VALUES ('completed', :completed), ('failed', :failed), ('aborted', :aborted)) AS ending
    LEFT JOIN jobq_retention AS retention ON retention.queue = found.queue
    WHERE found.queue IS NOT NULL
)
SELECT queue, state, ended
FROM limits
WHERE ended IS NOT NULL AND EXISTS (
    SELECT 1 FROM jobq_life AS life
    WHERE life.finished_at IS NOT NULL AND life.queue = limits.queue AND life.state = limits.state
        AND life.finished_at <= limits.ended
)

-- name: find_expired
-- A queue's jobs in a state that finished at or before a time, oldest first.
SELECT n FROM jobq_life WHERE queue = ? AND state = ? AND finished_at <= ? ORDER BY finished_at LIMIT ?
