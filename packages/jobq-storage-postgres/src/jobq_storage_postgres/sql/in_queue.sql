-- List jobs of a queue that were added before a moment. $1 queue, $2 moment, $3 limit.
SELECT p.id
FROM (
    SELECT id FROM jobq.waiting WHERE queue = $1::text
    UNION ALL SELECT id FROM jobq.ready WHERE queue = $1::text
    UNION ALL SELECT id FROM jobq.running WHERE queue = $1::text
    UNION ALL SELECT id FROM jobq.outcome WHERE queue = $1::text
) p
CROSS JOIN LATERAL (SELECT j.created_at FROM jobq.job j WHERE j.id = p.id LIMIT 1) j
WHERE j.created_at <= $2::timestamptz
LIMIT $3::bigint
