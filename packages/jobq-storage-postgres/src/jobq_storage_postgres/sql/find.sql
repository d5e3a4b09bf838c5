-- Jobs, newest first. $1 before which id, $2 queue, $3 kinds, $4 tags, $5 states, $6 how many; each of 1 to 5 may be NULL.
-- Walks down the ids and stops when there are enough.
SELECT j.id, j.kind, j.queue, p.state, j.priority, j.arguments, j.created_at, p.run_at, j.deadline, j.timeout, p.attempt,
    j.max_attempts, j.run_id, j.tags, j.unique_key, p.reason, p.request, p.worker, p.lease, p.started_at, p.finished_at,
    p.percent, p.message, p.details, p.result, p.error_type, p.error_message, p.error_traceback, a.attempts
FROM jobq.job j
CROSS JOIN LATERAL (SELECT p.* FROM jobq.job_state p WHERE p.id = j.id LIMIT 1) p
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_array(
        a.number, a.lease, a.worker, (extract(epoch FROM least(greatest(a.started_at, 'epoch'), '9999-12-31')) * 1000000)::bigint,
        (extract(epoch FROM least(greatest(a.finished_at, 'epoch'), '9999-12-31')) * 1000000)::bigint, a.error_type, a.error_message, a.error_traceback
    ) ORDER BY a.lease) AS attempts
    FROM jobq.attempt a WHERE a.job = j.id
) a ON true
WHERE j.id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    AND ($2::text IS NULL OR j.queue = $2)
    AND ($3::text[] IS NULL OR j.kind = ANY($3))
    AND ($4::text[] IS NULL OR j.tags @> $4)
    AND ($5::text[] IS NULL OR p.state = ANY($5))
ORDER BY j.id DESC
LIMIT $6::bigint
