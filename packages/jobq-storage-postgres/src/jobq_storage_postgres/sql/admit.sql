-- Make gated jobs PENDING, in their order in the batch; answers how many of each queue. $1 job ids, $2 their order.
WITH found AS MATERIALIZED (
    SELECT w.*, g.ord
    FROM unnest($1::uuid[], $2::integer[]) AS g(id, ord)
    CROSS JOIN LATERAL (
        SELECT w.* FROM jobq.waiting w
        WHERE w.id = g.id AND w.state = 'blocked' AND w.reason = 'gated'
        LIMIT 1 FOR UPDATE SKIP LOCKED
    ) w
), gone AS (
    DELETE FROM jobq.waiting WHERE id = ANY(ARRAY(SELECT id FROM found))
), admitted AS (
    INSERT INTO jobq.ready (
        id, position, since, run_at, started_at, deadline, lease, worker, size, rank, priority, attempt, flags, keyed,
        queue, kind, settled, percent, message, details, extra
    )
    SELECT f.id, nextval('jobq.position'), jobq.clock(), f.run_at, f.started_at, f.deadline, f.lease, f.worker, f.size,
        f.priority, f.priority, f.attempt, f.flags, f.keyed, f.queue, f.kind, f.settled, f.percent, f.message,
        f.details, f.extra
    FROM (SELECT * FROM found ORDER BY ord) f
)
SELECT queue, count(*) FROM found GROUP BY queue
