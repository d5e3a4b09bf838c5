-- Find jobs, newest first. Walks down the ids and stops when the page is full.
-- $1 id to begin below, $2 queue, $3 kinds, $4 tags, $5 states, $6 limit; $1 to $5 may be NULL.
SELECT j.id, j.kind, j.queue, s.state, j.priority, j.arguments, j.created_at, s.run_at, j.deadline, j.timeout,
    s.attempt, j.max_attempts, j.run_id, j.tags, j.unique_key, s.reason, s.request, s.worker, s.lease, s.started_at,
    s.finished_at, s.percent, s.message, s.details, s.result, s.error_type, s.error_message, s.error_traceback,
    a.attempts
FROM jobq.job j
CROSS JOIN LATERAL (SELECT s.* FROM jobq.job_state s WHERE s.id = j.id LIMIT 1) s
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_array(
        a.number, a.lease, a.worker, (extract(epoch FROM a.started_at) * 1000000)::bigint,
        (extract(epoch FROM a.finished_at) * 1000000)::bigint, a.error_type, a.error_message, a.error_traceback
    ) ORDER BY a.lease) AS attempts
    FROM jobq.attempt a WHERE a.job = j.id
) a ON true
WHERE j.id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    AND ($2::text IS NULL OR j.queue = $2)
    AND ($3::text[] IS NULL OR j.kind = ANY($3))
    AND ($4::text[] IS NULL OR j.tags @> $4)
    AND ($5::text[] IS NULL OR s.state = ANY($5))
ORDER BY j.id DESC
LIMIT $6::bigint
