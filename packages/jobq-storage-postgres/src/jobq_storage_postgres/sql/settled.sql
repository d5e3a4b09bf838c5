-- What earlier settlements led to, of jobs that were not claimed since. $1 job ids, $2 leases.
SELECT p.id, p.lease, p.settled
FROM unnest($1::uuid[], $2::bigint[]) AS g(id, lease)
CROSS JOIN LATERAL (
    SELECT p.id, p.lease, p.settled FROM jobq.job_state p WHERE p.id = g.id LIMIT 1
) p
WHERE p.lease = g.lease AND p.settled IS NOT NULL
