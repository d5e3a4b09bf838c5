-- Read the lines of queues that were ever used, and by which transactions. Answers at least one row: the first
-- transaction number that this statement's snapshot may not see; then queue and rank of a line (NULL: the row that
-- `set_queue` writes), the number of the transaction that registered it if that is this number or a later one, and
-- whether the queue is paused. $1 queues.
SELECT s.horizon::text::bigint, l.queue, l.rank,
    CASE WHEN l.registered >= s.horizon THEN l.registered::text::bigint END,
    EXISTS (SELECT FROM jobq.queue q WHERE q.name = l.queue AND q.paused_at IS NOT NULL)
FROM (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS horizon) s
LEFT JOIN jobq.line l ON l.queue = ANY($1::text[])
