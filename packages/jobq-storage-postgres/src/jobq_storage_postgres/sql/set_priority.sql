-- Give jobs that wait or are PENDING another priority; answers as `reschedule` does. `extra` carries it to the outcome.
-- The lines that they come to, now or later, are registered first. $1 job ids (sorted), $2 their order in the batch, $3
-- priority.
WITH given AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::integer[]) AS g(id, ord)
), kept_back AS MATERIALIZED (
    SELECT id, state, queue, priority <> $3::smallint AS goes
    FROM jobq.waiting
    WHERE id = ANY($1::uuid[])
    ORDER BY id
    FOR UPDATE
), pending AS MATERIALIZED (
    SELECT id, queue, priority <> $3 AS goes FROM jobq.ready WHERE id = ANY($1) ORDER BY id FOR UPDATE
), lined AS (
    INSERT INTO jobq.line (queue, rank)
    SELECT q.queue, $3
    FROM (SELECT queue FROM kept_back WHERE goes UNION SELECT queue FROM pending WHERE goes) q
    WHERE NOT EXISTS (SELECT FROM jobq.line l WHERE l.queue = q.queue AND l.rank = $3)
), altered AS (
    UPDATE jobq.waiting SET priority = $3, extra = jsonb_set(coalesce(extra, '{}'), '{priority}', to_jsonb($3))
    WHERE id = ANY(ARRAY(SELECT id FROM kept_back WHERE goes))
), from_ready AS (
    DELETE FROM jobq.ready WHERE id = ANY(ARRAY(SELECT id FROM pending WHERE goes)) RETURNING *
), again AS (
    INSERT INTO jobq.ready (
        id, position, since, run_at, started_at, deadline, lease, worker, size, rank, priority, attempt, flags, keyed,
        queue, kind, reason, settled, percent, message, details, extra
    )
    SELECT f.id, nextval('jobq.position'), f.since, f.run_at, f.started_at, f.deadline, f.lease, f.worker, f.size, $3, $3,
        f.attempt, f.flags, f.keyed, f.queue, f.kind, f.reason, f.settled, f.percent, f.message, f.details,
        jsonb_set(coalesce(f.extra, '{}'), '{priority}', to_jsonb($3))
    FROM (SELECT r.* FROM from_ready r JOIN given g ON g.id = r.id ORDER BY g.ord) f
)
SELECT id, state, state, goes, queue FROM kept_back
UNION ALL
SELECT id, 'pending', 'pending', goes, queue FROM pending
UNION ALL
{elsewhere}
