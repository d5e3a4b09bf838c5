-- Read the states that earlier settlements led to, of jobs that were not claimed since. $1 job ids, $2 leases.
SELECT s.id, s.lease, s.settled
FROM unnest($1::uuid[], $2::bigint[]) AS g(id, lease)
CROSS JOIN LATERAL (SELECT s.id, s.lease, s.settled FROM jobq.job_state s WHERE s.id = g.id LIMIT 1) s
WHERE s.lease = g.lease AND s.settled IS NOT NULL
