-- Find jobs of some states, newest first: walks down the tables of these states only. The failed and aborted jobs have
-- an index of their own, which the row comparison and the ORDER BY make the planner use. $1 id to begin below, or NULL;
-- $2 limit, $3 states.
WITH found AS MATERIALIZED (
    SELECT f.id FROM (
        (SELECT t.id FROM jobq.waiting t
        WHERE t.id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff') AND t.state = ANY($3::text[])
        ORDER BY t.id DESC LIMIT $2::bigint)
        UNION ALL
        (SELECT t.id FROM jobq.ready t
        WHERE t.id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff') AND 'pending' = ANY($3::text[])
        ORDER BY t.id DESC LIMIT $2::bigint)
        UNION ALL
        (SELECT t.id FROM jobq.running t
        WHERE t.id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff') AND 'processing' = ANY($3::text[])
        ORDER BY t.id DESC LIMIT $2::bigint)
        UNION ALL
        (SELECT t.id FROM jobq.outcome t
        WHERE t.id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff') AND t.state = 'completed'
            AND 'completed' = ANY($3::text[])
        ORDER BY t.id DESC LIMIT $2::bigint)
        UNION ALL
        (SELECT t.id FROM jobq.outcome t
        WHERE (t.state, t.id) < ('failed', coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            AND t.state >= 'failed' AND t.state <> 'completed' AND 'failed' = ANY($3::text[])
        ORDER BY t.state DESC, t.id DESC LIMIT $2::bigint)
        UNION ALL
        (SELECT t.id FROM jobq.outcome t
        WHERE (t.state, t.id) < ('aborted', coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            AND t.state >= 'aborted' AND t.state <> 'completed' AND 'aborted' = ANY($3::text[])
        ORDER BY t.state DESC, t.id DESC LIMIT $2::bigint)
    ) f
    ORDER BY f.id DESC
    LIMIT $2::bigint
)
SELECT {summary}
FROM found f
CROSS JOIN LATERAL (SELECT j.* FROM jobq.job j WHERE j.id = f.id LIMIT 1) j
CROSS JOIN LATERAL (SELECT s.* FROM jobq.job_state s WHERE s.id = f.id LIMIT 1) s
ORDER BY f.id DESC
