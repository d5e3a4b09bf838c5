-- Take unique keys for new jobs. $1 queues, $2 keys, $3 job ids. Answers who has each key, and whether this statement took
-- it, or NULL instead if the job itself is there already; no row if whoever has it is not visible yet.
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
SELECT queue, key, job, NULL FROM given WHERE there
UNION ALL
SELECT k.queue, k.key, k.job, false
FROM given g
CROSS JOIN LATERAL (
    SELECT k.* FROM jobq.unique_key k WHERE k.queue = g.queue AND k.key = g.key LIMIT 1
) k
WHERE NOT g.there
