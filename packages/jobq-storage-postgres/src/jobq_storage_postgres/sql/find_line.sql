-- Find the jobs of a queue, of some kinds, or both, newest first. Finished jobs are found by the index of their queue,
-- kind and state. Of the PENDING jobs, all of the queue are read if they are few; else jobs of all queues are, from the
-- newest on. $1 id to begin below, $2 limit, $3 queue, $4 kinds, $5 states; all but $2 may be NULL.
WITH lines AS MATERIALIZED (
    SELECT t.queue, t.kind, t.state
    FROM jobq.tally t
    WHERE ($3::text IS NULL OR t.queue = $3) AND ($4::text[] IS NULL OR t.kind = ANY($4))
        AND ($5::text[] IS NULL OR t.state = ANY($5))
    GROUP BY t.queue, t.kind, t.state
), pending AS MATERIALIZED (
    SELECT r.id, r.kind FROM jobq.ready r
    WHERE r.queue = $3 AND ($5 IS NULL OR 'pending' = ANY($5))
    LIMIT 5001
), few AS MATERIALIZED (
    SELECT $3 IS NOT NULL AND count(*) <= 5000 AS yes FROM pending
), found AS MATERIALIZED (
    SELECT f.id FROM (
        SELECT o.id
        FROM lines l
        CROSS JOIN LATERAL (
            -- Rows are compared, so that only the index of lines has this order. By an equality and the order of ids, a plan
            -- made without the values takes the primary key, and reads all newer jobs.
            SELECT o.id FROM jobq.outcome o
            WHERE (hashtext(o.queue) # hashtext(o.kind || o.state), o.id)
                    < (
                        hashtext(l.queue) # hashtext(l.kind || l.state),
                        coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
                    )
                AND hashtext(o.queue) # hashtext(o.kind || o.state) >= hashtext(l.queue) # hashtext(l.kind || l.state)
                AND o.queue = l.queue AND o.kind = l.kind AND o.state = l.state
                AND o.id < coalesce($1, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            ORDER BY hashtext(o.queue) # hashtext(o.kind || o.state) DESC, o.id DESC
            LIMIT $2::bigint
        ) o
        UNION ALL
        SELECT p.id FROM pending p
        WHERE (SELECT yes FROM few) AND p.id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            AND ($4 IS NULL OR p.kind = ANY($4))
        UNION ALL
        (SELECT r.id FROM jobq.ready r
        WHERE NOT (SELECT yes FROM few) AND ($5 IS NULL OR 'pending' = ANY($5))
            AND r.id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            AND ($3 IS NULL OR r.queue || '' = $3) AND ($4 IS NULL OR r.kind = ANY($4))
        ORDER BY r.id DESC
        LIMIT $2)
        UNION ALL
        SELECT w.id
        FROM unnest(ARRAY['scheduled', 'blocked', 'disabled']) AS s(state)
        CROSS JOIN LATERAL (
            SELECT w.id FROM jobq.waiting w
            WHERE w.queue = $3 AND w.state = s.state AND w.id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
                AND ($4 IS NULL OR w.kind = ANY($4))
            ORDER BY w.id DESC
            LIMIT $2
        ) w
        WHERE $5 IS NULL OR s.state = ANY($5)
        UNION ALL
        (SELECT w.id FROM jobq.waiting w
        WHERE $3 IS NULL AND w.id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff') AND w.kind = ANY($4)
            AND ($5 IS NULL OR w.state = ANY($5))
        ORDER BY w.id DESC
        LIMIT $2)
        UNION ALL
        (SELECT r.id FROM jobq.running r
        WHERE r.id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff') AND ($5 IS NULL OR 'processing' = ANY($5))
            AND ($3 IS NULL OR r.queue = $3) AND ($4 IS NULL OR r.kind = ANY($4))
        ORDER BY r.id DESC
        LIMIT $2)
    ) f
    ORDER BY f.id DESC
    LIMIT $2
)
SELECT {summary}
FROM found f
CROSS JOIN LATERAL (SELECT j.* FROM jobq.job j WHERE j.id = f.id LIMIT 1) j
CROSS JOIN LATERAL (SELECT s.* FROM jobq.job_state s WHERE s.id = f.id LIMIT 1) s
ORDER BY f.id DESC
