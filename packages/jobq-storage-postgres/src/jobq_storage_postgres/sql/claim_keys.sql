-- Take unique keys for new jobs. $1 queues, $2 keys, $3 job ids, $4 ids of all jobs that are to be added. Answers who has
-- each key, and whether this statement took it; no row if whoever has it is not visible yet. And, without queue and key,
-- which of all jobs are there already.
-- In the order of the keys, so that two adds cannot wait for each other.
WITH given AS MATERIALIZED (
    SELECT g.queue, g.key, g.job, EXISTS (SELECT FROM jobq.job j WHERE j.id = g.job) AS there
    FROM unnest($1::text[], $2::text[], $3::uuid[]) AS g(queue, key, job)
), taken AS (
    INSERT INTO jobq.unique_key (queue, key, job)
    SELECT queue, key, job FROM given WHERE NOT there ORDER BY queue, key
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
WHERE NOT g.there
    -- A holder that ended while this statement waited for it is still seen, though its key was taken.
    AND NOT EXISTS (SELECT FROM taken t WHERE t.queue = g.queue AND t.key = g.key)
