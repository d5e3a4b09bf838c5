-- Read the lines of queues that were ever used, and by which transactions. Answers at least one row: the first
-- transaction number that this statement's snapshot may not see; then queue and rank of a line, and whether it was
-- registered by this transaction number or a later one. $1 queues.
SELECT s.horizon::text::bigint, l.queue, l.rank, l.registered >= s.horizon
FROM (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS horizon) s
LEFT JOIN jobq.line l ON l.queue = ANY($1::text[])
