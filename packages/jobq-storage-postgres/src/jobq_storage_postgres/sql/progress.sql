-- Store the progress of running jobs; answers ids and leases of those that run. A row that another transaction holds is
-- left as it is: its run reports again, or stores its last report when it is settled.
-- $1 job ids (sorted), $2 leases, $3 percentages, $4 messages, $5 details.
WITH held AS MATERIALIZED (
    SELECT r.id, r.lease, g.percent, g.message, g.details
    FROM unnest($1::uuid[], $2::bigint[], $3::float8[], $4::text[], $5::json[])
        AS g(id, lease, percent, message, details)
    CROSS JOIN LATERAL (
        SELECT r.id, r.lease FROM jobq.running r WHERE r.id = g.id AND r.lease = g.lease LIMIT 1 FOR UPDATE SKIP LOCKED
    ) r
), stored AS (
    UPDATE jobq.running r SET percent = h.percent, message = h.message, details = h.details
    FROM held h
    WHERE r.id = ANY(ARRAY(SELECT id FROM held)) AND r.id = h.id
)
SELECT r.id, r.lease
FROM unnest($1, $2) AS g(id, lease)
CROSS JOIN LATERAL (SELECT r.id, r.lease FROM jobq.running r WHERE r.id = g.id AND r.lease = g.lease LIMIT 1) r
