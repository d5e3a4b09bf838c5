-- Find the jobs of a queue, of some kinds, or both, newest first, as `find` does. Finished jobs are found by the index
-- of their queue, kind and state. Of the PENDING jobs, all of the queue are read if they are few; else those of all
-- queues, from the newest on. Of these, and of the jobs that wait, no index has the kinds: at most so many of them are
-- read, and older jobs are left to the next call. $11 queue, $12 kinds, $13 states, $14 how many jobs to read so; $11 to
-- $13 may be NULL.
WITH {span}, lines AS MATERIALIZED (
    SELECT t.queue, t.kind, t.state
    FROM jobq.tally t
    WHERE ($11::text IS NULL OR t.queue = $11) AND ($12::text[] IS NULL OR t.kind = ANY($12))
        AND ($13::text[] IS NULL OR t.state = ANY($13))
    GROUP BY t.queue, t.kind, t.state
), pending AS MATERIALIZED (
    SELECT r.id, r.kind, r.worker FROM jobq.ready r
    WHERE r.queue = $11 AND ($13 IS NULL OR 'pending' = ANY($13))
    LIMIT 2001
), few AS MATERIALIZED (
    SELECT $11 IS NOT NULL AND count(*) <= 2000 AS yes FROM pending
), walked AS MATERIALIZED (
    (SELECT 'pending' AS walk, 'pending' AS state, r.id, r.queue, r.kind, r.worker, NULL AS error_type, NULL AS error_message
    FROM jobq.ready r
    WHERE NOT (SELECT yes FROM few) AND ($13 IS NULL OR 'pending' = ANY($13))
        AND r.id < (SELECT high FROM span) AND r.id >= (SELECT low FROM span)
    ORDER BY r.id DESC
    LIMIT $14::bigint)
    UNION ALL
    SELECT s.state, s.state, w.id, w.queue, w.kind, w.worker, w.error_type, w.error_message
    FROM unnest(ARRAY['scheduled', 'blocked', 'disabled']) AS s(state)
    CROSS JOIN LATERAL (
        SELECT w.* FROM jobq.waiting w
        WHERE (w.queue, w.state, w.id) < ($11, s.state, (SELECT high FROM span))
            AND (w.queue, w.state, w.id) >= ($11, s.state, (SELECT low FROM span))
        ORDER BY w.queue DESC, w.state DESC, w.id DESC
        LIMIT CASE WHEN $12 IS NULL THEN $2::bigint ELSE $14 END
    ) w
    WHERE $13 IS NULL OR s.state = ANY($13)
    UNION ALL
    (SELECT 'waiting', w.state, w.id, w.queue, w.kind, w.worker, w.error_type, w.error_message
    FROM jobq.waiting w
    WHERE $11 IS NULL AND ($13 IS NULL OR $13 && ARRAY['scheduled', 'blocked', 'disabled'])
        AND w.id < (SELECT high FROM span) AND w.id >= (SELECT low FROM span)
    ORDER BY w.id DESC
    LIMIT $14)
), reach AS MATERIALIZED (
    -- The id down to which all jobs were read.
    SELECT w.id AS low
    FROM (SELECT walk FROM walked GROUP BY walk HAVING count(*) >= $14) s
    CROSS JOIN LATERAL (SELECT w.id FROM walked w WHERE w.walk = s.walk ORDER BY w.id LIMIT 1) w
    ORDER BY w.id DESC
    LIMIT 1
), found AS MATERIALIZED (
    SELECT f.* FROM (
        SELECT o.id, o.worker, o.error_type, o.error_message
        FROM lines l
        CROSS JOIN LATERAL (
            -- Rows are compared, so that only the index of lines has this order. By an equality and the order of ids, a
            -- plan made without the values takes the primary key, and reads all newer jobs.
            SELECT o.id, o.worker, o.error_type, o.error_message FROM jobq.outcome o
            WHERE (hashtext(o.queue) # hashtext(o.kind || o.state), o.id)
                    < (hashtext(l.queue) # hashtext(l.kind || l.state), (SELECT high FROM span))
                AND (hashtext(o.queue) # hashtext(o.kind || o.state), o.id)
                    >= (hashtext(l.queue) # hashtext(l.kind || l.state), (SELECT low FROM span))
                AND o.queue = l.queue AND o.kind = l.kind AND o.state = l.state
            ORDER BY hashtext(o.queue) # hashtext(o.kind || o.state) DESC, o.id DESC
            LIMIT $2::bigint
        ) o
        UNION ALL
        SELECT p.id, p.worker, NULL, NULL FROM pending p
        WHERE (SELECT yes FROM few) AND p.id < (SELECT high FROM span) AND p.id >= (SELECT low FROM span)
            AND ($12 IS NULL OR p.kind = ANY($12))
        UNION ALL
        SELECT w.id, w.worker, w.error_type, w.error_message
        FROM walked w
        WHERE ($11 IS NULL OR w.queue = $11) AND ($12 IS NULL OR w.kind = ANY($12))
            AND ($13 IS NULL OR w.state = ANY($13))
        UNION ALL
        (SELECT r.id, r.worker, NULL, NULL FROM jobq.running r
        WHERE r.id < (SELECT high FROM span) AND r.id >= (SELECT low FROM span)
            AND ($13 IS NULL OR 'processing' = ANY($13))
            AND ($11 IS NULL OR r.queue = $11) AND ($12 IS NULL OR r.kind = ANY($12))
        ORDER BY r.id DESC
        LIMIT $2)
    ) f
    WHERE f.id >= coalesce((SELECT low FROM reach), '00000000-0000-0000-0000-000000000000')
    ORDER BY f.id DESC
    LIMIT $2
), {page}
