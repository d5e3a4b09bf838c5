-- Count jobs by their queue, kind and state, up to a limit: the finished ones as they ended, the others one by one. $1
-- queue, $2 kinds, $3 states, $4 limit; all but $4 may be NULL.
WITH finished AS MATERIALIZED (
    SELECT coalesce(sum(greatest(t.finished, 0)), 0)::bigint AS jobs
    FROM (
        SELECT sum(t.finished) AS finished FROM jobq.tally t
        WHERE ($1::text IS NULL OR t.queue = $1) AND ($2::text[] IS NULL OR t.kind = ANY($2))
            AND ($3::text[] IS NULL OR t.state = ANY($3))
        GROUP BY t.queue, t.kind, t.state
    ) t
)
SELECT (SELECT jobs FROM finished) + (
    SELECT count(*) FROM (
        SELECT FROM (
            SELECT w.id FROM jobq.waiting w
            WHERE $1 IS NULL AND ($3 IS NULL OR w.state = ANY($3)) AND ($2 IS NULL OR w.kind = ANY($2))
            UNION ALL
            SELECT w.id FROM jobq.waiting w
            WHERE w.queue = $1 AND ($3 IS NULL OR w.state = ANY($3)) AND ($2 IS NULL OR w.kind = ANY($2))
            UNION ALL
            SELECT r.id FROM jobq.ready r
            WHERE $1 IS NULL AND ($3 IS NULL OR 'pending' = ANY($3)) AND ($2 IS NULL OR r.kind = ANY($2))
            UNION ALL
            SELECT r.id FROM jobq.ready r
            WHERE r.queue = $1 AND ($3 IS NULL OR 'pending' = ANY($3)) AND ($2 IS NULL OR r.kind = ANY($2))
            UNION ALL
            SELECT r.id FROM jobq.running r
            WHERE ($1 IS NULL OR r.queue = $1) AND ($3 IS NULL OR 'processing' = ANY($3))
                AND ($2 IS NULL OR r.kind = ANY($2))
        ) u
        LIMIT greatest($4::bigint - (SELECT jobs FROM finished), 0)
    ) l
)
