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
-- The jobs that hold the unique keys in :keys, an array of [queue, key] as JSON; by their index in it.
SELECT wanted.key, job.id
FROM json_each(:keys) AS wanted
CROSS JOIN jobq_unique_key AS held
    ON held.queue = json_extract(wanted.value, '$[0]') AND held.unique_key = json_extract(wanted.value, '$[1]')
CROSS JOIN jobq_job AS job ON job.n = held.n
WHERE held.until IS NULL OR held.until > :now

-- name: insert_job
INSERT INTO jobq_job
    (n, id, kind, priority, arguments, created_at, max_attempts, deadline, timeout, backoff, run_id, tags, fingerprint,
    meta)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING

-- name: store_follow_up
-- For a job that was just inserted: few have one, and the others do not pay for it.
UPDATE jobq_job SET follow_up = ? WHERE n = ?

-- name: insert_plain_job
-- A job without options. Each NULL that is bound takes 0.2 µs, so that this takes half the time.
INSERT INTO jobq_job (n, id, kind, priority, arguments, created_at, max_attempts)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING

-- name: find_inserted
-- Which of the numbers from ? on went to jobs: those whose ids were new.
SELECT n FROM jobq_job WHERE n >= ?

-- name: insert_life
INSERT INTO jobq_life (n, queue, urgency, position, state, since, flags, run_at, deadline, reason, unique_key)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_plain_life
INSERT INTO jobq_life (n, queue, urgency, position, state, since) VALUES (?, ?, ?, ?, ?, ?)

-- name: hold_key
-- Take a unique key that nobody holds, or whose time is over.
INSERT OR REPLACE INTO jobq_unique_key (queue, unique_key, n) VALUES (?, ?, ?)

-- name: free_key
-- Give up the key that a job held while it was unfinished.
DELETE FROM jobq_unique_key
WHERE queue = coalesce((SELECT key_queue FROM jobq_life WHERE n = :n), :queue) AND unique_key = :key AND n = :n
    AND until IS NULL

-- name: insert_span
INSERT OR IGNORE INTO jobq_span (what, name, span) VALUES (?, ?, ?)
