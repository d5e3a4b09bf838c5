-- Take unique keys for new jobs; answers who has each key, and whether it was taken by this statement; no row if
-- whoever has it is not visible yet.
-- $1 queues, $2 keys, $3 job ids. In the order of the keys, so that two adds cannot wait for each other.
WITH taken AS (
    INSERT INTO jobq.unique_key (queue, key, job)
    SELECT g.queue, g.key, g.job
    FROM unnest($1::text[], $2::text[], $3::uuid[]) AS g(queue, key, job)
    ORDER BY g.queue, g.key
    ON CONFLICT (queue, key) DO NOTHING
    RETURNING queue, key, job
)
SELECT queue, key, job, true FROM taken
UNION ALL
SELECT k.queue, k.key, k.job, false
FROM unnest($1::text[], $2::text[]) AS g(queue, key)
CROSS JOIN LATERAL (
    SELECT k.* FROM jobq.unique_key k WHERE k.queue = g.queue AND k.key = g.key LIMIT 1
) k
