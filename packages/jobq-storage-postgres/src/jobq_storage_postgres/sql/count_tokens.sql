-- Count jobs by their queue, kind and state, up to a limit: the finished ones as they ended, the others one by one.
-- NULL if more unfinished ones would have to be read to find those of some kinds, for which there is no index, than may
-- be. $1 queue, $2 kinds, $3 states, $4 limit, $5 how many may be read; $1 to $3 may be NULL.
WITH finished AS MATERIALIZED (
    SELECT coalesce(sum(greatest(t.finished, 0)), 0)::bigint AS jobs
    FROM (
        SELECT sum(t.finished) AS finished FROM jobq.tally t
        WHERE ($1::text IS NULL OR t.queue = $1) AND ($2::text[] IS NULL OR t.kind = ANY($2))
            AND ($3::text[] IS NULL OR t.state = ANY($3))
        GROUP BY t.queue, t.kind, t.state
    ) t
), unfinished AS MATERIALIZED (
    SELECT count(*) AS read, count(*) FILTER (WHERE $2 IS NULL OR u.kind = ANY($2)) AS jobs
    FROM (
        SELECT w.kind FROM jobq.waiting w
        WHERE $1 IS NULL AND ($3 IS NULL OR $3 && ARRAY['scheduled', 'blocked', 'disabled'])
            AND ($3 IS NULL OR w.state = ANY($3))
        UNION ALL
        SELECT w.kind FROM jobq.waiting w WHERE w.queue = $1 AND ($3 IS NULL OR w.state = ANY($3))
        UNION ALL
        SELECT r.kind FROM jobq.ready r WHERE $1 IS NULL AND ($3 IS NULL OR 'pending' = ANY($3))
        UNION ALL
        SELECT r.kind FROM jobq.ready r WHERE r.queue = $1 AND ($3 IS NULL OR 'pending' = ANY($3))
        UNION ALL
        SELECT r.kind FROM jobq.running r
        WHERE ($1 IS NULL OR r.queue = $1) AND ($3 IS NULL OR 'processing' = ANY($3))
        LIMIT CASE
            WHEN (SELECT jobs FROM finished) >= $4::bigint THEN 0
            WHEN $2 IS NULL THEN $4 - (SELECT jobs FROM finished)
            ELSE $5::bigint + 1
        END
    ) u
)
SELECT CASE WHEN $2 IS NULL OR u.read <= $5 THEN f.jobs + u.jobs END FROM finished f, unfinished u
