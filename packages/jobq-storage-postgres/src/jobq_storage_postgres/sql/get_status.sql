-- Read what waiting clients need of jobs. $1 job ids.
SELECT j.id, j.kind, s.queue, s.state, s.attempt, s.worker, s.percent, s.message, s.details, s.result, s.error_type,
    s.error_message, s.error_traceback
FROM unnest($1::uuid[]) AS g(id)
CROSS JOIN LATERAL (SELECT j.* FROM jobq.job j WHERE j.id = g.id LIMIT 1) j
CROSS JOIN LATERAL (SELECT s.* FROM jobq.job_state s WHERE s.id = g.id LIMIT 1) s
