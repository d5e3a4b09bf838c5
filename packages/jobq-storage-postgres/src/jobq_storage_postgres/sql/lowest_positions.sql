-- Observe lines, to find up to which position each is empty for good: see watermarks.py. One row per line: the lowest
-- visible position above its mark, the bounds of this statement's snapshot, and the last position that was drawn.
-- $1 queues, $2 ranks, $3 marks.
SELECT line.queue, line.rank, r.position, pg_snapshot_xmin(s.snapshot)::text::bigint,
    pg_snapshot_xmax(s.snapshot)::text::bigint, p.last_value - (NOT p.is_called)::integer
FROM (SELECT pg_current_snapshot() AS snapshot) s
CROSS JOIN jobq.position p
CROSS JOIN unnest($1::text[], $2::smallint[], $3::bigint[]) AS line(queue, rank, mark)
LEFT JOIN LATERAL (
    SELECT r.position FROM jobq.ready r
    WHERE r.queue = line.queue AND r.rank = line.rank AND r.position > line.mark
    ORDER BY r.position LIMIT 1
) r ON true
