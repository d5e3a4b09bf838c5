-- Make due jobs PENDING; answers how many of each queue. $1 limit, $2 the run_at to begin at.
WITH due AS MATERIALIZED (
    SELECT w.*
    FROM jobq.waiting w
    WHERE w.state <> 'disabled' AND w.run_at >= $2::timestamptz AND w.run_at <= (SELECT jobq.clock())
    ORDER BY w.run_at, w.position
    LIMIT $1::bigint
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM jobq.waiting WHERE id = ANY(ARRAY(SELECT id FROM due))
), freed AS (
    INSERT INTO jobq.ready (
        id, position, since, run_at, started_at, deadline, lease, worker, size, rank, priority, attempt, flags, keyed,
        queue, kind, settled, percent, message, details, extra
    )
    SELECT d.id, nextval('jobq.position'), jobq.clock(), d.run_at, d.started_at, d.deadline, d.lease, d.worker,
        d.size, d.priority, d.priority, d.attempt, d.flags, d.keyed, d.queue, d.kind, d.settled,
        d.percent, d.message, d.details, d.extra
    FROM (SELECT * FROM due ORDER BY run_at, position) d
    RETURNING queue
)
SELECT queue, count(*) FROM freed GROUP BY queue
