-- Adding jobs.

-- name: wanted
-- A common table expression: the ids in :ids, which are 16 bytes each, one after the other; i counts from 0.
wanted (i, id) AS (
    SELECT 0, substr(:ids, 1, 16) WHERE length(:ids) > 0
    UNION ALL
    SELECT i + 1, substr(:ids, 16 * i + 17, 16) FROM wanted WHERE 16 * (i + 1) < length(:ids)
)

-- name: find_ids
-- The ids among :ids that jobs have already.
WITH RECURSIVE {wanted}
SELECT job.id FROM wanted CROSS JOIN jobq_job AS job ON job.id = wanted.id

-- name: find_key_holders
-- The unfinished jobs that hold the unique keys in :keys, an array of [queue, key] as JSON; by their index in it.
SELECT wanted.key, job.id
FROM json_each(:keys) AS wanted
CROSS JOIN jobq_life AS life
    ON life.queue = json_extract(wanted.value, '$[0]') AND life.unique_key = json_extract(wanted.value, '$[1]')
CROSS JOIN jobq_job AS job ON job.n = life.n
WHERE life.unique_key IS NOT NULL AND life.finished_at IS NULL

-- name: insert_job
INSERT INTO jobq_job
    (n, id, kind, arguments, created_at, deadline, timeout, max_attempts, backoff, run_id, tags, fingerprint)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING

-- name: find_inserted
-- Which of the numbers from ? on went to jobs: those whose ids were new.
SELECT n FROM jobq_job WHERE n >= ?

-- name: insert_life
INSERT INTO jobq_life (n, queue, urgency, position, state, run_at, reason, unique_key)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
