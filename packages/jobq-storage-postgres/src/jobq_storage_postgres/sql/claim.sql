-- Claim the first jobs of lines (a line is a queue and a rank). The lines are read one after another until there are
-- enough jobs; later lines are neither read nor locked. Takes nothing if the worker is not alive, or if a line was
-- registered that it does not know. Answers a row for each job, or one without a job; its first column is NULL, or says
-- that the worker is 'lost', that its lines are 'stale', or that there is 'more' than the limit of bytes allows. A job
-- that was deleted by hand has no kind; its row in `running` is left for `drop_ghosts`.
-- $1 worker; $2 queues; their lines in the order of claiming: $3 queues, $4 ranks, $5 watermarks; $6 limit, $7 limit of
-- bytes; $8 the transaction number of which on the worker knows only the lines registered by those of $9.
-- Takes nothing if the jobs are of more bytes than the limit. `claim_limited` then takes those that fit; it is the same
-- statement with other parts, and $10 the limit of each line's queue, or NULL.
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
    -- How many of the first ones to take if not all fit into the limit of bytes; NULL: all. One job always fits.
    SELECT CASE WHEN sum(size) > $7::bigint AND count(*) > 1 THEN {fitting} END AS jobs FROM locked
), gone AS (
    DELETE FROM jobq.ready WHERE ctid = ANY(ARRAY(SELECT row FROM locked LIMIT (SELECT jobs FROM fitting)))
), started AS (
    INSERT INTO jobq.running (
        id, lease, started_at, pending_since, run_at, deadline, worker, size, priority, attempt, flags, keyed, queue,
        kind, extra
    )
    SELECT l.id, nextval('jobq.lease'), jobq.clock(), l.since, l.run_at, l.deadline, $1, l.size, l.priority,
        least(l.attempt + 1, 32767), l.flags, l.keyed, l.queue, l.kind, l.extra
    FROM locked l
    LIMIT (SELECT jobs FROM fitting)
    RETURNING id, lease, attempt, priority, queue
)
SELECT CASE
        WHEN NOT w.alive THEN 'lost'
        WHEN NOT w.fresh THEN 'stale'
        WHEN (SELECT jobs FROM fitting) IS NOT NULL THEN 'more'
    END,
    s.id, s.lease, s.queue, j.kind, j.arguments, s.attempt, j.max_attempts, s.priority, j.timeout,
    CASE
        WHEN isfinite(j.deadline) THEN extract(epoch FROM j.deadline - jobq.clock())::float8
        WHEN j.deadline < 'infinity' THEN 0
    END,
    j.backoff, j.run_id, j.tags, j.meta
FROM worker w
LEFT JOIN started s ON true
LEFT JOIN LATERAL (SELECT j.* FROM jobq.job j WHERE j.id = s.id LIMIT 1) j ON true
