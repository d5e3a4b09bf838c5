-- Unblock the jobs that waited for a worker which knows their kind. $1 queues, $2 kinds, $3 the reason of waiting.
WITH known AS MATERIALIZED (
    SELECT w.*
    FROM jobq.waiting w
    WHERE w.state = 'blocked' AND w.reason = $3::text AND w.queue = ANY($1::text[])
        AND (SELECT j.kind FROM jobq.job j WHERE j.id = w.id) = ANY($2::text[])
    ORDER BY w.id
    FOR UPDATE
), gone AS (
    DELETE FROM jobq.waiting WHERE id = ANY(ARRAY(SELECT id FROM known))
), freed AS (
    INSERT INTO jobq.ready (
        id, position, since, run_at, started_at, deadline, lease, worker, size, rank, priority, attempt, flags, keyed,
        queue, kind, settled, percent, message, details, extra
    )
    SELECT k.id, nextval('jobq.position'), jobq.clock(), k.run_at, k.started_at, k.deadline, k.lease, k.worker,
        k.size, k.priority, k.priority, k.attempt, k.flags, k.keyed, k.queue, k.kind, k.settled,
        k.percent, k.message, k.details, k.extra
    FROM (SELECT * FROM known ORDER BY run_at, position) k
    RETURNING queue
)
SELECT DISTINCT queue FROM freed
