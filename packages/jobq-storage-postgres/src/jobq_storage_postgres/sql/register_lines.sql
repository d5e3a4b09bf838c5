-- Register lines that jobs are about to be added to. $1 queues, $2 ranks.
INSERT INTO jobq.line (queue, rank)
SELECT g.queue, g.rank
FROM unnest($1::text[], $2::smallint[]) AS g(queue, rank)
WHERE NOT EXISTS (SELECT FROM jobq.line l WHERE l.queue = g.queue AND l.rank = g.rank)
