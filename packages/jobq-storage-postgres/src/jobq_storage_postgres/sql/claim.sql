-- Claim the first jobs of the lines (a line is a queue and a rank). Always answers a row, whose first column says
-- whether the worker is alive. The lines are read one after another until there are enough jobs; later lines are
-- neither read nor locked.
-- $1 worker; $2 queues, $3 ranks and $4 watermarks of the lines, in the order of claiming; $5 limit.
WITH alive AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM jobq.worker w WHERE w.id = $1::uuid AND w.expires_at > (SELECT jobq.clock())) AS alive
), picked AS MATERIALIZED (
    SELECT r.*
    FROM unnest($2::text[], $3::smallint[], $4::bigint[]) AS line(queue, rank, mark)
    CROSS JOIN LATERAL (
        SELECT r.ctid AS row, r.id, r.since, r.run_at, r.deadline, r.size, r.priority, r.attempt, r.flags, r.keyed,
            r.queue, r.kind, r.extra
        FROM jobq.ready r
        WHERE r.queue = line.queue AND r.rank = line.rank AND r.position > line.mark
        ORDER BY r.position
        LIMIT $5::integer
        FOR UPDATE SKIP LOCKED
    ) r
    WHERE (SELECT alive FROM alive)
    LIMIT $5::integer
), gone AS (
    DELETE FROM jobq.ready WHERE ctid = ANY(ARRAY(SELECT row FROM picked))
), started AS (
    INSERT INTO jobq.running (
        id, lease, started_at, pending_since, run_at, deadline, worker, size, priority, attempt, flags, keyed, queue,
        kind, extra
    )
    SELECT p.id, nextval('jobq.lease'), jobq.clock(), p.since, p.run_at, p.deadline, $1::uuid, p.size, p.priority,
        least(p.attempt + 1, 32767), p.flags, p.keyed, p.queue, p.kind, p.extra
    FROM picked p
    RETURNING id, lease, attempt
)
SELECT alive.alive, c.*
FROM alive
LEFT JOIN (
    SELECT s.id, s.lease, j.queue, j.kind, j.arguments, s.attempt, j.max_attempts, j.priority, j.timeout,
        CASE
            WHEN isfinite(j.deadline) THEN extract(epoch FROM j.deadline - jobq.clock())::float8
            WHEN j.deadline < 'infinity' THEN 0
        END,
        j.backoff, j.run_id, j.tags
    FROM started s
    CROSS JOIN LATERAL (SELECT j.* FROM jobq.job j WHERE j.id = s.id LIMIT 1) j
) c ON true
