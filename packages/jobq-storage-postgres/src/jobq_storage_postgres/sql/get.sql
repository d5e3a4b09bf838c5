-- All that is known of jobs. $1 job ids.
SELECT j.id, j.kind, j.queue, p.state, j.priority, j.arguments, j.created_at, p.run_at, j.deadline, j.timeout, p.attempt,
    j.max_attempts, j.run_id, j.tags, j.unique_key, p.reason, p.request, p.worker, p.lease, p.started_at, p.finished_at,
    p.percent, p.message, p.details, p.result, p.error_type, p.error_message, p.error_traceback, a.attempts
FROM unnest($1::uuid[]) AS g(id)
CROSS JOIN LATERAL (SELECT j.* FROM jobq.job j WHERE j.id = g.id LIMIT 1) j
CROSS JOIN LATERAL (SELECT p.* FROM jobq.job_state p WHERE p.id = g.id LIMIT 1) p
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_array(
        a.number, a.lease, a.worker, (extract(epoch FROM least(greatest(a.started_at, 'epoch'), '9999-12-31')) * 1000000)::bigint,
        (extract(epoch FROM least(greatest(a.finished_at, 'epoch'), '9999-12-31')) * 1000000)::bigint, a.error_type, a.error_message, a.error_traceback
    ) ORDER BY a.lease) AS attempts
    FROM jobq.attempt a WHERE a.job = j.id
) a ON true
