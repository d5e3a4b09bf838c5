-- Take unique keys for new jobs, in the order of the keys, so that two adds cannot deadlock. Answers the holder of each
-- key, and whether this statement took the key; no row for a key whose holder is not visible yet. Rows without queue
-- and key name the jobs that are stored already.
-- $1 queues, $2 keys, $3 job ids, $4 ids of all jobs that are to be added.
WITH given AS MATERIALIZED (
    SELECT g.queue, g.key, g.job, EXISTS (SELECT FROM jobq.job j WHERE j.id = g.job) AS stored
    FROM unnest($1::text[], $2::text[], $3::uuid[]) AS g(queue, key, job)
), taken AS (
    INSERT INTO jobq.unique_key (queue, key, job)
    SELECT queue, key, job FROM given WHERE NOT stored ORDER BY queue, key
    ON CONFLICT (queue, key) DO NOTHING
    RETURNING queue, key, job
)
SELECT queue, key, job, true FROM taken
UNION ALL
SELECT NULL, NULL, g.job, NULL
FROM unnest($4::uuid[]) AS g(job)
WHERE EXISTS (SELECT FROM jobq.job j WHERE j.id = g.job)
UNION ALL
SELECT k.queue, k.key, k.job, false
FROM given g
CROSS JOIN LATERAL (
    SELECT k.* FROM jobq.unique_key k WHERE k.queue = g.queue AND k.key = g.key LIMIT 1
) k
WHERE NOT g.stored
    -- A holder that ended while this statement waited for it is still visible, though its key was taken.
    AND NOT EXISTS (SELECT FROM taken t WHERE t.queue = g.queue AND t.key = g.key)
