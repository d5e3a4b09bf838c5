-- Make the jobs PENDING that wait for a worker which knows their kind; a gated one waits on, for `admit`. Answers
-- queues. $1 queues, $2 kinds.
WITH known AS MATERIALIZED (
    SELECT w.*
    FROM unnest($1::text[]) AS q(name)
    CROSS JOIN unnest($2::text[]) AS k(kind)
    CROSS JOIN LATERAL (
        SELECT w.*
        FROM jobq.waiting w
        WHERE w.state = 'blocked' AND w.reason IN ('unknown kind', 'arguments do not fit')
            AND w.reason = 'unknown kind' AND w.queue = q.name AND w.kind = k.kind
        ORDER BY w.id
        FOR UPDATE SKIP LOCKED
    ) w
), gone AS (
    DELETE FROM jobq.waiting WHERE id = ANY(ARRAY(SELECT id FROM known WHERE flags & 1 = 0))
), gated AS (
    UPDATE jobq.waiting SET reason = 'gated', since = jobq.clock(), run_at = NULL
    WHERE id = ANY(ARRAY(SELECT id FROM known WHERE flags & 1 <> 0))
), freed AS (
    INSERT INTO jobq.ready (
        id, position, since, run_at, started_at, deadline, lease, worker, size, rank, priority, attempt, flags, keyed,
        queue, kind, settled, percent, message, details, extra
    )
    SELECT k.id, nextval('jobq.position'), jobq.clock(), k.run_at, k.started_at, k.deadline, k.lease, k.worker, k.size,
        k.priority, k.priority, k.attempt, k.flags, k.keyed, k.queue, k.kind, k.settled, k.percent, k.message,
        k.details, k.extra
    FROM (SELECT * FROM known WHERE flags & 1 = 0 ORDER BY id) k
    RETURNING queue
)
SELECT DISTINCT queue FROM freed
