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
        id, position, run_at, started_at, lease, worker, priority, attempt, keyed, queue, settled, percent, message,
        details
    )
    SELECT d.id, nextval('jobq.position'), d.run_at, d.started_at, d.lease, d.worker, d.priority, d.attempt, d.keyed,
        d.queue, d.settled, d.percent, d.message, d.details
    FROM (SELECT * FROM due ORDER BY run_at, position) d
    RETURNING queue
)
SELECT queue, count(*) FROM freed GROUP BY queue
