-- Read which leases a worker still holds, and the requests to their jobs. $1 worker, $2 job ids, $3 leases.
SELECT r.id, r.lease, r.request
FROM unnest($2::uuid[], $3::bigint[]) AS g(id, lease)
CROSS JOIN LATERAL (
    SELECT r.* FROM jobq.running r WHERE r.id = g.id AND r.lease = g.lease AND r.worker = $1::uuid LIMIT 1
) r
