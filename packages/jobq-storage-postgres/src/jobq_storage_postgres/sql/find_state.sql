-- Find jobs of some states, newest first: walks down the tables of these states only. The failed and aborted jobs have
-- an index of their own, which the row comparison and the ORDER BY make the planner use. $1 to $6 as for `find`.
WITH found AS MATERIALIZED (
    SELECT f.id FROM (
    (SELECT t.id FROM jobq.waiting t
    CROSS JOIN LATERAL (SELECT j.queue, j.kind, j.tags FROM jobq.job j WHERE j.id = t.id LIMIT 1) j
    WHERE t.id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        AND t.state = ANY($5::text[])
        AND ($2::text IS NULL OR j.queue = $2)
        AND ($3::text[] IS NULL OR j.kind = ANY($3))
        AND ($4::text[] IS NULL OR j.tags @> $4)
    ORDER BY t.id DESC LIMIT $6::bigint)
    UNION ALL
    (SELECT t.id FROM jobq.ready t
    CROSS JOIN LATERAL (SELECT j.queue, j.kind, j.tags FROM jobq.job j WHERE j.id = t.id LIMIT 1) j
    WHERE t.id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        AND 'pending' = ANY($5::text[])
        AND ($2::text IS NULL OR j.queue = $2)
        AND ($3::text[] IS NULL OR j.kind = ANY($3))
        AND ($4::text[] IS NULL OR j.tags @> $4)
    ORDER BY t.id DESC LIMIT $6::bigint)
    UNION ALL
    (SELECT t.id FROM jobq.running t
    CROSS JOIN LATERAL (SELECT j.queue, j.kind, j.tags FROM jobq.job j WHERE j.id = t.id LIMIT 1) j
    WHERE t.id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        AND 'processing' = ANY($5::text[])
        AND ($2::text IS NULL OR j.queue = $2)
        AND ($3::text[] IS NULL OR j.kind = ANY($3))
        AND ($4::text[] IS NULL OR j.tags @> $4)
    ORDER BY t.id DESC LIMIT $6::bigint)
    UNION ALL
    (SELECT t.id FROM jobq.outcome t
    CROSS JOIN LATERAL (SELECT j.queue, j.kind, j.tags FROM jobq.job j WHERE j.id = t.id LIMIT 1) j
    WHERE t.id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        AND t.state = 'completed' AND 'completed' = ANY($5::text[])
        AND ($2::text IS NULL OR j.queue = $2)
        AND ($3::text[] IS NULL OR j.kind = ANY($3))
        AND ($4::text[] IS NULL OR j.tags @> $4)
    ORDER BY t.id DESC LIMIT $6::bigint)
    UNION ALL
    (SELECT t.id FROM jobq.outcome t
    CROSS JOIN LATERAL (SELECT j.queue, j.kind, j.tags FROM jobq.job j WHERE j.id = t.id LIMIT 1) j
    WHERE (t.state, t.id) < ('failed', coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
        AND t.state >= 'failed' AND t.state <> 'completed' AND 'failed' = ANY($5::text[])
        AND ($2::text IS NULL OR j.queue = $2)
        AND ($3::text[] IS NULL OR j.kind = ANY($3))
        AND ($4::text[] IS NULL OR j.tags @> $4)
    ORDER BY t.state DESC, t.id DESC LIMIT $6::bigint)
    UNION ALL
    (SELECT t.id FROM jobq.outcome t
    CROSS JOIN LATERAL (SELECT j.queue, j.kind, j.tags FROM jobq.job j WHERE j.id = t.id LIMIT 1) j
    WHERE (t.state, t.id) < ('aborted', coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
        AND t.state >= 'aborted' AND t.state <> 'completed' AND 'aborted' = ANY($5::text[])
        AND ($2::text IS NULL OR j.queue = $2)
        AND ($3::text[] IS NULL OR j.kind = ANY($3))
        AND ($4::text[] IS NULL OR j.tags @> $4)
    ORDER BY t.state DESC, t.id DESC LIMIT $6::bigint)
    ) f
    ORDER BY f.id DESC
    LIMIT $6::bigint
)
SELECT j.id, j.kind, j.queue, s.state, j.priority, j.arguments, j.created_at, s.run_at, j.deadline, j.timeout,
    s.attempt, j.max_attempts, j.run_id, j.tags, j.unique_key, s.reason, s.request, s.worker, s.lease, s.started_at,
    s.finished_at, s.percent, s.message, s.details, s.result, s.error_type, s.error_message, s.error_traceback,
    a.attempts
FROM found f
CROSS JOIN LATERAL (SELECT j.* FROM jobq.job j WHERE j.id = f.id LIMIT 1) j
CROSS JOIN LATERAL (SELECT s.* FROM jobq.job_state s WHERE s.id = f.id LIMIT 1) s
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_array(
        a.number, a.lease, a.worker, (extract(epoch FROM a.started_at) * 1000000)::bigint,
        (extract(epoch FROM a.finished_at) * 1000000)::bigint, a.error_type, a.error_message, a.error_traceback
    ) ORDER BY a.lease) AS attempts
    FROM jobq.attempt a WHERE a.job = j.id
) a ON true
ORDER BY f.id DESC
