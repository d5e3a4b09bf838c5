-- Changing jobs by hand, deleting them, and the options of queues.

-- name: find_job
SELECT job.id, life.n, life.queue, job.kind, life.flags, life.unique_key, coalesce(life.key_queue, life.queue), life.state,
    life.request, life.run_at, life.reason, life.extra, job.priority
FROM jobq_job AS job JOIN jobq_life AS life ON life.n = job.n
WHERE job.id = ?

-- name: is_key_held
-- Parameters: the queue, the key, now.
SELECT 1 FROM jobq_unique_key WHERE queue = ? AND unique_key = ? AND (until IS NULL OR until > ?)

-- name: request
-- Ask the worker of a running job to stop it (or, with NULL, to let it run on).
UPDATE jobq_life SET request = ? WHERE n = ? AND state = 'processing'

-- name: abort
UPDATE jobq_life SET state = 'aborted', finished_at = ?, reason = 'aborted' WHERE n = ?

-- name: disable
UPDATE jobq_life SET state = 'disabled', reason = 'disabled', since = ? WHERE n = ?

-- name: forget_error
UPDATE jobq_life SET error_lease = NULL WHERE n = ?

-- name: enable_later
UPDATE jobq_life SET state = 'scheduled', reason = 'delayed', error_lease = NULL, since = ? WHERE n = ?

-- name: forget_runs
-- Let a finished job begin again.
UPDATE jobq_life
SET attempt = 0, finished_at = NULL, state = 'disabled', reason = 'disabled', error_lease = NULL, percent = NULL, message = NULL,
    details = NULL
WHERE n = ?

-- name: set_time
UPDATE jobq_life SET run_at = ? WHERE n = ?

-- name: reschedule
UPDATE jobq_life
SET state = 'scheduled', reason = 'delayed', run_at = :run_at,
    since = CASE WHEN state = 'scheduled' THEN since ELSE :now END
WHERE n = :n

-- name: move
UPDATE jobq_life
SET queue = ?, key_queue = CASE WHEN unique_key IS NOT NULL THEN coalesce(key_queue, queue) END
WHERE n = ?

-- name: set_priority
UPDATE jobq_job SET priority = ? WHERE n = ?

-- name: place
-- The place of a PENDING job in line. Parameters: the position, the urgency, the job's number.
UPDATE jobq_life SET position = ?, urgency = ? WHERE n = ?

-- name: find_jobs_of_run
-- Some jobs of a run, up to the number :last, after the id :after, and whether each is finished.
SELECT job.id, life.finished_at IS NOT NULL
FROM jobq_job AS job CROSS JOIN jobq_life AS life ON life.n = job.n
WHERE job.run_id = :run_id AND job.id > :after AND job.n <= :last
ORDER BY job.id
LIMIT :limit

-- name: find_queue
-- Some jobs of a queue, up to the number :last. One part per index, so that jobs of other queues are not read, except
-- those that run.
SELECT n FROM jobq_life WHERE state = 'pending' AND queue = :queue AND n <= :last
UNION ALL
SELECT n FROM jobq_life WHERE reason IS NOT NULL AND finished_at IS NULL AND queue = :queue AND n <= :last
UNION ALL
SELECT n FROM jobq_life WHERE state = 'processing' AND queue = :queue AND n <= :last
UNION ALL
SELECT n FROM jobq_life WHERE finished_at IS NOT NULL AND queue = :queue AND n <= :last
LIMIT :limit

-- name: numbered
-- :numbers, here and below: an array of job numbers as JSON.
(SELECT value FROM json_each(:numbers))

-- name: count_removed
-- By queue, state and kind, the jobs that are to be deleted.
SELECT life.queue, life.state, job.kind, count(*)
FROM jobq_life AS life CROSS JOIN jobq_job AS job ON job.n = life.n
WHERE life.n IN {numbered}
GROUP BY life.queue, life.state, job.kind

-- name: end_removed
-- Keep the ends of followed jobs that are deleted unfinished.
INSERT INTO jobq_ended (id, queue, state, at)
SELECT job.id, life.queue, NULL, :now
FROM jobq_life AS life CROSS JOIN jobq_job AS job ON job.n = life.n
WHERE life.n IN {numbered} AND life.finished_at IS NULL AND life.flags & 2

-- name: free_removed_keys
DELETE FROM jobq_unique_key
WHERE n IN {numbered} AND until IS NULL
    AND (queue, unique_key) IN (
        SELECT coalesce(key_queue, queue), unique_key FROM jobq_life WHERE n IN {numbered}
    )

-- name: delete_attempts
DELETE FROM jobq_attempt WHERE n IN {numbered}

-- name: delete_logs
DELETE FROM jobq_log WHERE n IN {numbered}

-- name: delete_lives
DELETE FROM jobq_life WHERE n IN {numbered}

-- name: delete_jobs
DELETE FROM jobq_job WHERE n IN {numbered}

-- name: pause
-- Parameters: the queue, when it was paused, by whom.
INSERT INTO jobq_queue (queue, paused_at, paused_by) VALUES (?, ?, ?)
ON CONFLICT (queue) DO UPDATE SET paused_at = excluded.paused_at, paused_by = excluded.paused_by
WHERE (paused_at IS NULL) <> (excluded.paused_at IS NULL)

-- name: set_retention
INSERT INTO jobq_queue (queue, owner, completed, failed, aborted)
VALUES (?, ?, ?, ?, ?)
ON CONFLICT (queue) DO UPDATE
SET owner = excluded.owner, completed = excluded.completed, failed = excluded.failed, aborted = excluded.aborted
WHERE owner IS NOT 'operator' OR excluded.owner = 'operator'
