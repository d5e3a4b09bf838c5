-- Make due jobs PENDING; a gated one waits on, for `admit`. Answers queues, how many jobs of each, and whether they are
-- PENDING. $1 limit, $2 the run_at to begin at.
WITH due AS MATERIALIZED (
    SELECT w.*
    FROM jobq.waiting w
    WHERE w.state <> 'disabled' AND w.run_at >= $2::timestamptz AND w.run_at <= (SELECT jobq.clock())
    ORDER BY w.run_at, w.position
    LIMIT $1::bigint
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM jobq.waiting WHERE id = ANY(ARRAY(SELECT id FROM due WHERE flags & 1 = 0))
), gated AS (
    UPDATE jobq.waiting SET state = 'blocked', reason = 'gated', since = jobq.clock(), run_at = NULL
    WHERE id = ANY(ARRAY(SELECT id FROM due WHERE flags & 1 <> 0))
), freed AS (
    INSERT INTO jobq.ready (
        id, position, since, run_at, started_at, deadline, lease, worker, size, rank, priority, attempt, flags, keyed,
        queue, kind, settled, percent, message, details, extra
    )
    SELECT d.id, nextval('jobq.position'), jobq.clock(), d.run_at, d.started_at, d.deadline, d.lease, d.worker, d.size,
        d.priority, d.priority, d.attempt, d.flags, d.keyed, d.queue, d.kind, d.settled, d.percent, d.message,
        d.details, d.extra
    FROM (SELECT * FROM due WHERE flags & 1 = 0 ORDER BY run_at, position) d
)
SELECT queue, count(*), flags & 1 = 0 FROM due GROUP BY queue, flags & 1
