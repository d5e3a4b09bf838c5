-- Claim the first jobs of lines (a line is a queue and a rank). The lines are read one after another until there are
-- enough jobs; later lines are neither read nor locked. Takes nothing if the worker is not alive, or if a line was
-- registered that it does not know. Answers a row for each job, or one without a job; its first column is NULL, or says
-- that the worker is 'lost', that its lines are 'stale', or that there is 'more' than the limit of bytes allows. A job
-- that was deleted by hand has no queue; its row in `running` is left for `drop_ghosts`.
-- $1 worker; $2 queues; their lines in the order of claiming: $3 queues, $4 ranks, $5 watermarks; $6 limit, $7 limit of
-- bytes; $8 the transaction number of which on the worker knows only the lines registered by those of $9.
-- `claim_limited` is the same statement with other lines; $10 the limit of each line's queue, or NULL.
WITH worker AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM jobq.worker w WHERE w.id = $1::uuid AND w.expires_at > (SELECT jobq.clock())) AS alive,
        NOT EXISTS (
            SELECT FROM jobq.line l
            WHERE l.registered >= $8::xid8 AND l.queue = ANY($2::text[]) AND l.registered::text::bigint <> ALL($9::bigint[])
        ) AS fresh
), locked AS MATERIALIZED (
    SELECT r.*
    FROM {lines}
    WHERE (SELECT alive AND fresh FROM worker)
    LIMIT $6
), fitting AS MATERIALIZED (
    -- How many of the first ones fit into the limit of bytes; summed up one by one only if not all do. NULL: all.
    SELECT CASE WHEN (SELECT sum(size) FROM locked) > $7::bigint THEN (
        SELECT greatest(count(*) FILTER (WHERE s.total <= $7), 1)
        FROM (SELECT sum(size) OVER (ROWS UNBOUNDED PRECEDING) AS total FROM locked) s
    ) END AS jobs
), picked AS (
    SELECT * FROM locked LIMIT (SELECT jobs FROM fitting)
), gone AS (
    DELETE FROM jobq.ready WHERE ctid = ANY(ARRAY(SELECT row FROM picked))
), started AS (
    INSERT INTO jobq.running (
        id, lease, started_at, pending_since, run_at, deadline, worker, size, priority, attempt, flags, keyed, queue,
        kind, extra
    )
    SELECT p.id, nextval('jobq.lease'), jobq.clock(), p.since, p.run_at, p.deadline, $1, p.size, p.priority,
        least(p.attempt + 1, 32767), p.flags, p.keyed, p.queue, p.kind, p.extra
    FROM picked p
    RETURNING id, lease, attempt
)
SELECT CASE
        WHEN NOT w.alive THEN 'lost'
        WHEN NOT w.fresh THEN 'stale'
        WHEN (SELECT jobs FROM fitting) < (SELECT count(*) FROM locked) THEN 'more'
    END,
    s.id, s.lease, j.queue, j.kind, j.arguments, s.attempt, j.max_attempts, j.priority, j.timeout,
    CASE
        WHEN isfinite(j.deadline) THEN extract(epoch FROM j.deadline - jobq.clock())::float8
        WHEN j.deadline < 'infinity' THEN 0
    END,
    j.backoff, j.run_id, j.tags, j.meta
FROM worker w
LEFT JOIN started s ON true
LEFT JOIN LATERAL (SELECT j.* FROM jobq.job j WHERE j.id = s.id LIMIT 1) j ON true
