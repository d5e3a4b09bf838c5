-- Read jobs with everything that belongs to them: the columns of `find`, and the payloads. $1 job ids.
SELECT {summary},
    j.arguments, j.meta, s.result, s.details, s.error_traceback, a.attempts
FROM unnest($1::uuid[]) AS g(id)
CROSS JOIN LATERAL (SELECT j.* FROM jobq.job j WHERE j.id = g.id LIMIT 1) j
CROSS JOIN LATERAL (SELECT s.* FROM jobq.job_state s WHERE s.id = g.id LIMIT 1) s
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_array(
        a.number, a.lease, a.worker, (extract(epoch FROM a.started_at) * 1000000)::bigint,
        (extract(epoch FROM a.finished_at) * 1000000)::bigint, a.error_type, a.error_message, a.error_traceback
    ) ORDER BY a.lease) AS attempts
    FROM jobq.attempt a WHERE a.job = j.id
) a ON true
