-- Mark runs as started; answers ids and leases of those that may start, and whether it is still unknown, because
-- another transaction holds the row. $1 worker, $2 job ids (sorted), $3 leases.
WITH held AS MATERIALIZED (
    SELECT r.id, r.lease
    FROM unnest($2::uuid[], $3::bigint[]) AS g(id, lease)
    CROSS JOIN LATERAL (
        SELECT r.id, r.lease FROM jobq.running r
        WHERE r.id = g.id AND r.lease = g.lease AND r.worker = $1::uuid
        LIMIT 1 FOR UPDATE SKIP LOCKED
    ) r
), noted AS (
    UPDATE jobq.running SET begun = true WHERE id = ANY(ARRAY(SELECT id FROM held))
)
SELECT id, lease, false FROM held
UNION ALL
SELECT r.id, r.lease, true
FROM unnest($2, $3) AS g(id, lease)
CROSS JOIN LATERAL (
    SELECT r.id, r.lease FROM jobq.running r WHERE r.id = g.id AND r.lease = g.lease AND r.worker = $1 LIMIT 1
) r
WHERE (SELECT count(*) FROM held) < cardinality($2) AND NOT EXISTS (SELECT FROM held h WHERE h.lease = r.lease)
