-- Delete runs whose jobs were deleted by hand. $1 job ids, $2 leases.
DELETE FROM jobq.running r
USING unnest($1::uuid[], $2::bigint[]) AS g(id, lease)
WHERE r.id = g.id AND r.lease = g.lease AND NOT EXISTS (SELECT FROM jobq.job j WHERE j.id = r.id)
