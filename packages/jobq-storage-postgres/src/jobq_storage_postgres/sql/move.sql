-- Move jobs that wait or are PENDING to another queue; answers as `reschedule` does, with the new queue. The lines that
-- they come to, now or later, are registered first. $1 job ids (sorted), $2 their order in the batch, $3 queue.
WITH given AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::integer[]) AS g(id, ord)
), kept_back AS MATERIALIZED (
    SELECT id, state, priority, queue <> $3::text AS goes
    FROM jobq.waiting
    WHERE id = ANY($1::uuid[])
    ORDER BY id
    FOR UPDATE
), pending AS MATERIALIZED (
    SELECT id, priority, queue <> $3 AS goes FROM jobq.ready WHERE id = ANY($1) ORDER BY id FOR UPDATE
), lined AS (
    INSERT INTO jobq.line (queue, rank)
    SELECT $3, p.priority
    FROM (SELECT priority FROM kept_back WHERE goes UNION SELECT priority FROM pending WHERE goes) p
    WHERE NOT EXISTS (SELECT FROM jobq.line l WHERE l.queue = $3 AND l.rank = p.priority)
), moved AS (
    UPDATE jobq.waiting SET queue = $3 WHERE id = ANY(ARRAY(SELECT id FROM kept_back WHERE goes))
), from_ready AS (
    DELETE FROM jobq.ready WHERE id = ANY(ARRAY(SELECT id FROM pending WHERE goes)) RETURNING *
), again AS (
    INSERT INTO jobq.ready (
        id, position, since, run_at, started_at, deadline, lease, worker, size, rank, priority, attempt, flags, keyed,
        queue, kind, reason, settled, percent, message, details, extra
    )
    SELECT f.id, nextval('jobq.position'), f.since, f.run_at, f.started_at, f.deadline, f.lease, f.worker, f.size,
        f.priority, f.priority, f.attempt, f.flags, f.keyed, $3, f.kind, f.reason, f.settled, f.percent, f.message,
        f.details, f.extra
    FROM (SELECT r.* FROM from_ready r JOIN given g ON g.id = r.id ORDER BY g.ord) f
)
SELECT id, state, state, goes, $3 FROM kept_back
UNION ALL
SELECT id, 'pending', 'pending', goes, $3 FROM pending
UNION ALL
{elsewhere}
