-- Find jobs without their payloads, newest first. $1 id to begin below, or NULL; $2 limit.
SELECT j.id, j.kind, j.queue, s.state, j.priority, j.created_at, s.run_at, j.deadline, j.timeout, s.attempt, j.max_attempts,
    j.run_id, j.tags, j.unique_key, s.reason, s.request, s.worker, s.lease, s.started_at, s.finished_at, s.since, s.flags,
    s.percent, s.message, s.error_type, s.error_message
FROM jobq.job j
CROSS JOIN LATERAL (SELECT s.* FROM jobq.job_state s WHERE s.id = j.id LIMIT 1) s
WHERE j.id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
ORDER BY j.id DESC
LIMIT $2::bigint
