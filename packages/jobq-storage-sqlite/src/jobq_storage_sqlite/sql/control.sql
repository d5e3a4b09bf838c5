-- Aborting, retrying, disabling, enabling and deleting jobs.

-- name: find_job
SELECT life.n, life.queue, life.state, life.request, life.run_at, life.unique_key
FROM jobq_job AS job JOIN jobq_life AS life ON life.n = job.n
WHERE job.id = ?

-- name: is_key_held
SELECT 1 FROM jobq_life WHERE queue = ? AND unique_key = ? AND unique_key IS NOT NULL AND finished_at IS NULL

-- name: request
-- Ask the worker of a running job to stop it (or, with NULL, to let it run on).
UPDATE jobq_life SET request = ? WHERE n = ? AND state = 'processing'

-- name: abort
UPDATE jobq_life SET state = 'aborted', finished_at = ?, reason = 'aborted' WHERE n = ?

-- name: disable
UPDATE jobq_life SET state = 'disabled', reason = 'disabled' WHERE n = ?

-- name: enable
UPDATE jobq_life SET state = 'pending', position = ?, reason = NULL, error_lease = NULL WHERE n = ?

-- name: enable_later
UPDATE jobq_life SET state = 'scheduled', reason = 'delayed', error_lease = NULL WHERE n = ?

-- name: retry
UPDATE jobq_life
SET state = 'pending', position = ?, attempt = 0, finished_at = NULL, error_lease = NULL, reason = NULL, percent = NULL,
    message = NULL, details = NULL
WHERE n = ?

-- name: find_jobs_of_run
-- Some jobs of a run, up to the number :last, after the id :after, and whether each is finished.
SELECT job.id, life.finished_at IS NOT NULL
FROM jobq_job AS job CROSS JOIN jobq_life AS life ON life.n = job.n
WHERE job.run_id = :run_id AND job.id > :after AND job.n <= :last
ORDER BY job.id
LIMIT :limit

-- name: find_queue
-- Some jobs of a queue, up to the number :last, and whether each is running. One part per index, so that jobs of other
-- queues are not read, except those that run.
SELECT n, 0 FROM jobq_life WHERE state = 'pending' AND queue = :queue AND n <= :last
UNION ALL
SELECT n, 0 FROM jobq_life WHERE state IN ('scheduled', 'blocked', 'disabled') AND queue = :queue AND n <= :last
UNION ALL
SELECT n, 1 FROM jobq_life WHERE state = 'processing' AND queue = :queue AND n <= :last
UNION ALL
SELECT n, 0 FROM jobq_life WHERE finished_at IS NOT NULL AND queue = :queue AND n <= :last
LIMIT :limit

-- name: delete_attempts
-- :numbers, here and below: an array of job numbers as JSON.
DELETE FROM jobq_attempt WHERE n IN (SELECT value FROM json_each(:numbers))

-- name: delete_lives
DELETE FROM jobq_life WHERE n IN (SELECT value FROM json_each(:numbers))

-- name: delete_jobs
DELETE FROM jobq_job WHERE n IN (SELECT value FROM json_each(:numbers))
