-- Find jobs of some states, newest first, as `find` does: walks down the tables of these states only. The failed and
-- aborted jobs have an index of their own, which the row comparison and the ORDER BY make the planner use. Of one or
-- two of the three states of `waiting`, the jobs are found queue by queue, since there may be few of them. A search for
-- an error has an index there too. $11 states.
WITH RECURSIVE {span}, pairs AS (
    (SELECT queue, state FROM jobq.waiting
    WHERE $11::text[] && ARRAY['scheduled', 'blocked', 'disabled']
        AND NOT $11 @> ARRAY['scheduled', 'blocked', 'disabled'] AND $7::text IS NULL AND $8::text IS NULL
    ORDER BY queue, state LIMIT 1)
    UNION ALL
    {next_pair}
), found AS MATERIALIZED (
    SELECT f.* FROM (
        (SELECT t.id, t.worker, t.error_type, t.error_message FROM jobq.waiting t
        WHERE t.id < (SELECT high FROM span) AND t.id >= (SELECT low FROM span)
            AND $11 @> ARRAY['scheduled', 'blocked', 'disabled'] AND $7 IS NULL AND $8 IS NULL
        ORDER BY t.id DESC LIMIT $2::bigint)
        UNION ALL
        (SELECT t.id, t.worker, t.error_type, t.error_message FROM jobq.waiting t
        WHERE t.id < (SELECT high FROM span) AND t.id >= (SELECT low FROM span) AND t.error_type IS NOT NULL
            AND t.state = ANY($11) AND ($7 IS NOT NULL OR $8 IS NOT NULL)
        ORDER BY t.id DESC LIMIT $2)
        UNION ALL
        SELECT t.id, t.worker, t.error_type, t.error_message
        FROM pairs p
        CROSS JOIN LATERAL (
            SELECT t.* FROM jobq.waiting t
            WHERE (t.queue, t.state, t.id) < (p.queue, p.state, (SELECT high FROM span))
                AND (t.queue, t.state, t.id) >= (p.queue, p.state, (SELECT low FROM span))
            ORDER BY t.queue DESC, t.state DESC, t.id DESC
            LIMIT $2
        ) t
        WHERE p.state = ANY($11)
        UNION ALL
        (SELECT t.id, t.worker, NULL, NULL FROM jobq.ready t
        WHERE t.id < (SELECT high FROM span) AND t.id >= (SELECT low FROM span) AND 'pending' = ANY($11::text[])
        ORDER BY t.id DESC LIMIT $2::bigint)
        UNION ALL
        (SELECT t.id, t.worker, NULL, NULL FROM jobq.running t
        WHERE t.id < (SELECT high FROM span) AND t.id >= (SELECT low FROM span) AND 'processing' = ANY($11::text[])
        ORDER BY t.id DESC LIMIT $2::bigint)
        UNION ALL
        (SELECT t.id, t.worker, t.error_type, t.error_message FROM jobq.outcome t
        WHERE t.id < (SELECT high FROM span) AND t.id >= (SELECT low FROM span) AND t.state = 'completed'
            AND 'completed' = ANY($11::text[])
        ORDER BY t.id DESC LIMIT $2::bigint)
        UNION ALL
        (SELECT t.id, t.worker, t.error_type, t.error_message FROM jobq.outcome t
        WHERE (t.state, t.id) < ('failed', (SELECT high FROM span))
            AND (t.state, t.id) >= ('failed', (SELECT low FROM span))
            AND t.state <> 'completed' AND 'failed' = ANY($11::text[])
        ORDER BY t.state DESC, t.id DESC LIMIT $2::bigint)
        UNION ALL
        (SELECT t.id, t.worker, t.error_type, t.error_message FROM jobq.outcome t
        WHERE (t.state, t.id) < ('aborted', (SELECT high FROM span))
            AND (t.state, t.id) >= ('aborted', (SELECT low FROM span))
            AND t.state <> 'completed' AND 'aborted' = ANY($11::text[])
        ORDER BY t.state DESC, t.id DESC LIMIT $2::bigint)
    ) f
    ORDER BY f.id DESC
    LIMIT $2::bigint
), reach AS (
    SELECT NULL::uuid AS low WHERE false
), {page}
