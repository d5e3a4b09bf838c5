-- Give a new position to jobs that appeared below a skipped position. Answers the queues, and how many jobs of each.
WITH below AS MATERIALIZED (
    SELECT r.*
    FROM jobq.skipped p
    CROSS JOIN LATERAL (
        SELECT r.ctid AS row, r.* FROM jobq.ready r
        WHERE r.queue = p.queue AND r.rank = p.rank AND r.position <= p.position
        ORDER BY r.position
        LIMIT 10000
        FOR UPDATE SKIP LOCKED
    ) r
), gone AS (
    DELETE FROM jobq.ready WHERE ctid = ANY(ARRAY(SELECT row FROM below)) RETURNING id
), moved AS (
    INSERT INTO jobq.ready (
        id, position, since, run_at, started_at, deadline, lease, worker, size, rank, priority, attempt, flags, keyed,
        queue, kind, reason, settled, percent, message, details, extra
    )
    SELECT b.id, nextval('jobq.position'), b.since, b.run_at, b.started_at, b.deadline, b.lease, b.worker, b.size, b.rank,
        b.priority, b.attempt, b.flags, b.keyed, b.queue, b.kind, b.reason, b.settled, b.percent, b.message, b.details,
        b.extra
    FROM (SELECT below.* FROM below WHERE (SELECT count(*) FROM gone) >= 0 ORDER BY position) b
    RETURNING queue
)
SELECT queue, count(*) FROM moved GROUP BY queue
