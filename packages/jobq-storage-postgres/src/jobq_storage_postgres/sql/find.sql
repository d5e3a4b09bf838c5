-- Find jobs without their payloads, newest first. $1 id to begin below, or NULL; $2 limit.
SELECT {summary}
FROM jobq.job j
CROSS JOIN LATERAL (SELECT s.* FROM jobq.job_state s WHERE s.id = j.id LIMIT 1) s
WHERE j.id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
ORDER BY j.id DESC
LIMIT $2::bigint
