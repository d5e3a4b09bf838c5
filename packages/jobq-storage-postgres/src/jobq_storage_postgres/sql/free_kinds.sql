-- Free jobs that wait for a worker which can take them, to the line of returned jobs; a gated one waits on, for
-- `admit`. Answers queue, number of jobs and whether they are PENDING. $1 worker; $2 queues; $3 kinds and $4
-- declarations that the worker knows, in pairs; $5 limit.
WITH found AS MATERIALIZED (
    SELECT w.*
    FROM unnest($2::text[]) AS q(name)
    CROSS JOIN unnest($3::text[], $4::text[]) AS k(kind, declaration)
    CROSS JOIN LATERAL (
        SELECT w.*
        FROM jobq.waiting w
        WHERE w.state = 'blocked' AND w.reason IN ('unknown kind', 'arguments do not fit') AND w.queue = q.name
            AND w.kind = k.kind AND coalesce(NOT w.extra -> 'refused' @> to_jsonb(k.declaration), true)
        ORDER BY w.id
        LIMIT $5::integer
        FOR UPDATE SKIP LOCKED
    ) w
    WHERE EXISTS (SELECT FROM jobq.worker a WHERE a.id = $1::uuid AND a.expires_at > (SELECT jobq.clock()))
    LIMIT $5
), gone AS (
    DELETE FROM jobq.waiting WHERE id = ANY(ARRAY(SELECT id FROM found WHERE flags & 1 = 0))
), lined AS (
    INSERT INTO jobq.line (queue, rank)
    SELECT DISTINCT f.queue, 101
    FROM found f
    WHERE f.flags & 1 = 0 AND NOT EXISTS (SELECT FROM jobq.line l WHERE l.queue = f.queue AND l.rank = 101)
), gated AS (
    UPDATE jobq.waiting SET reason = 'gated', since = jobq.clock(), run_at = NULL
    WHERE id = ANY(ARRAY(SELECT id FROM found WHERE flags & 1 <> 0))
), freed AS (
    INSERT INTO jobq.ready (
        id, position, since, run_at, started_at, deadline, lease, worker, size, rank, priority, attempt, flags, keyed,
        queue, kind, settled, percent, message, details, extra
    )
    SELECT f.id, nextval('jobq.position'), jobq.clock(), f.run_at, f.started_at, f.deadline, f.lease, f.worker, f.size,
        101, f.priority, f.attempt, f.flags, f.keyed, f.queue, f.kind, f.settled, f.percent, f.message, f.details,
        f.extra
    FROM (SELECT * FROM found WHERE flags & 1 = 0 ORDER BY id) f
)
SELECT queue, count(*), flags & 1 = 0 FROM found GROUP BY queue, flags & 1
