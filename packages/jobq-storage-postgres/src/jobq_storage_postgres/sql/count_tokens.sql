-- Count jobs by their queue, kind and state: the finished ones as they ended, the others one by one, up to a limit of
-- each state. $1 queue, $2 kinds, $3 states, $4 limit; all but $4 may be NULL.
SELECT (
    SELECT coalesce(sum(greatest(t.finished, 0)), 0) FROM (
        SELECT sum(t.finished) AS finished FROM jobq.tally t
        WHERE ($1::text IS NULL OR t.queue = $1) AND ($2::text[] IS NULL OR t.kind = ANY($2))
            AND ($3::text[] IS NULL OR t.state = ANY($3))
        GROUP BY t.queue, t.kind, t.state
    ) t
)::bigint + (
    SELECT count(*) FROM (
        SELECT FROM jobq.waiting w
        WHERE $1 IS NULL AND ($3 IS NULL OR w.state = ANY($3)) AND ($2 IS NULL OR w.kind = ANY($2))
        LIMIT $4::bigint
    ) w
) + (
    SELECT count(*) FROM (
        SELECT FROM jobq.waiting w
        WHERE w.queue = $1 AND ($3 IS NULL OR w.state = ANY($3)) AND ($2 IS NULL OR w.kind = ANY($2))
        LIMIT $4
    ) w
) + (
    SELECT count(*) FROM (
        SELECT FROM jobq.ready r
        WHERE $1 IS NULL AND ($3 IS NULL OR 'pending' = ANY($3)) AND ($2 IS NULL OR r.kind = ANY($2))
        LIMIT $4
    ) r
) + (
    SELECT count(*) FROM (
        SELECT FROM jobq.ready r
        WHERE r.queue = $1 AND ($3 IS NULL OR 'pending' = ANY($3)) AND ($2 IS NULL OR r.kind = ANY($2))
        LIMIT $4
    ) r
) + (
    SELECT count(*) FROM (
        SELECT FROM jobq.running r
        WHERE ($1 IS NULL OR r.queue = $1) AND ($3 IS NULL OR 'processing' = ANY($3))
            AND ($2 IS NULL OR r.kind = ANY($2))
        LIMIT $4
    ) r
)
