-- Read jobs without their payloads, newest first. $1 job ids.
SELECT {summary}
FROM unnest($1::uuid[]) AS g(id)
CROSS JOIN LATERAL (SELECT j.* FROM jobq.job j WHERE j.id = g.id LIMIT 1) j
CROSS JOIN LATERAL (SELECT s.* FROM jobq.job_state s WHERE s.id = g.id LIMIT 1) s
ORDER BY j.id DESC
