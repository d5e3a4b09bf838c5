-- Note positions that claims skip although a transaction could still add a lower one. In the order of the key, so that
-- two workers cannot deadlock. $1 queues, $2 ranks, $3 positions, $4 the first transaction numbers that no longer
-- can.
INSERT INTO jobq.skipped AS p (queue, rank, position, horizon)
SELECT g.queue, g.rank, g.position, g.horizon::text::xid8
FROM unnest($1::text[], $2::smallint[], $3::bigint[], $4::bigint[]) AS g(queue, rank, position, horizon)
ORDER BY g.queue, g.rank
ON CONFLICT (queue, rank) DO UPDATE SET
    position = greatest(p.position, excluded.position),
    horizon = CASE WHEN excluded.horizon > p.horizon THEN excluded.horizon ELSE p.horizon END
