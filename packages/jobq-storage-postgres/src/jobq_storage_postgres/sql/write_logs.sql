-- Keep parts of the logs of jobs that exist, unless they are there. $1 job ids, $2 leases, $3 parts, $4 attempts,
-- $5 lines.
INSERT INTO jobq.job_log (job, lease, part, attempt, at, lines)
SELECT j.id, g.lease, g.part, g.attempt, jobq.clock(), g.lines
FROM unnest($1::uuid[], $2::bigint[], $3::integer[], $4::integer[], $5::json[]) AS g(job, lease, part, attempt, lines)
CROSS JOIN LATERAL (SELECT j.id FROM jobq.job j WHERE j.id = g.job LIMIT 1) j
ORDER BY g.job, g.lease, g.part
ON CONFLICT (job, lease, part) DO NOTHING
