-- What waiters need of jobs. $1 job ids.
SELECT j.id, j.kind, j.queue, p.state, p.attempt, p.worker, p.percent, p.message, p.details, p.result, p.error_type,
    p.error_message, p.error_traceback
FROM unnest($1::uuid[]) AS g(id)
CROSS JOIN LATERAL (SELECT j.* FROM jobq.job j WHERE j.id = g.id LIMIT 1) j
CROSS JOIN LATERAL (SELECT p.* FROM jobq.job_state p WHERE p.id = g.id LIMIT 1) p
