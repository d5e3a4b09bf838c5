-- Lock running jobs in the order of their ids, for statements that lock them in another order.
-- $1 job ids (sorted), $2 leases.
SELECT count(*)
FROM unnest($1::uuid[], $2::bigint[]) AS g(id, lease)
CROSS JOIN LATERAL (
    SELECT r.id FROM jobq.running r WHERE r.id = g.id AND r.lease = g.lease LIMIT 1 FOR UPDATE
) r
