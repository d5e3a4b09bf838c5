-- Claim the first jobs of lines (a line is a queue and a rank). The lines are read one after another until there are
-- enough jobs; later lines are neither read nor locked. Takes nothing if a line was registered that the worker does not
-- know. Answers first a row with an object: whether the worker is `alive`, whether its lines are `fresh`, how many rows
-- it `picked` and whether there are `more`, and which queues are `paused`; then a row for each job.
-- $1 worker; the queues in the order of claiming: $2 names, $3 limits, $4 and $5 the indexes of the first and last of
-- their lines in $6 ranks and $7 watermarks; $8 limit, $9 limit of bytes, $10 transaction number of which on the worker
-- knows $11 lines of these queues.
WITH worker AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM jobq.worker w WHERE w.id = $1::uuid AND w.expires_at > (SELECT jobq.clock())) AS alive,
        $11::bigint = (
            SELECT count(*) FROM jobq.line l WHERE l.registered >= $10::bigint::text::xid8 AND l.queue = ANY($2::text[])
        ) AS fresh,
        ARRAY(SELECT q.name FROM jobq.queue q WHERE q.paused_at IS NOT NULL AND q.name || '' = ANY($2)) AS paused
), locked AS MATERIALIZED (
    SELECT r.*
    FROM unnest($2, $3::integer[], $4::integer[], $5::integer[]) AS q(name, most, first, last)
    CROSS JOIN LATERAL (
        SELECT r.*
        FROM generate_series(q.first, q.last) AS line
        CROSS JOIN LATERAL (
            SELECT r.ctid AS row, r.id, r.since, r.run_at, r.deadline, r.size, r.priority, r.attempt, r.flags, r.keyed,
                r.queue, r.kind, r.extra
            FROM jobq.ready r
            WHERE r.queue = q.name AND r.rank = ($6::smallint[])[line] AND r.position > ($7::bigint[])[line]
            ORDER BY r.position
            LIMIT $8::integer
            FOR UPDATE SKIP LOCKED
        ) r
        LIMIT q.most
    ) r
    WHERE (SELECT alive AND fresh FROM worker) AND NOT q.name = ANY((SELECT paused FROM worker)::text[])
    LIMIT $8
), fitting AS MATERIALIZED (
    -- How many of the first ones fit into the limit of bytes; summed up one by one only if not all do. NULL: all.
    SELECT CASE WHEN (SELECT sum(size) FROM locked) > $9::bigint THEN (
        SELECT greatest(count(*) FILTER (WHERE s.total <= $9), 1)
        FROM (SELECT sum(size) OVER (ROWS UNBOUNDED PRECEDING) AS total FROM locked) s
    ) END AS jobs
), picked AS (
    SELECT * FROM locked LIMIT (SELECT jobs FROM fitting)
), taken AS MATERIALIZED (
    -- A row whose job was deleted by hand is deleted too.
    SELECT p.*, nextval('jobq.lease') AS lease, jobq.clock() AS now, least(p.attempt + 1, 32767) AS number, j.arguments,
        j.max_attempts, j.timeout, j.deadline AS due, j.backoff, j.run_id, j.tags, j.meta
    FROM picked p
    CROSS JOIN LATERAL (SELECT j.* FROM jobq.job j WHERE j.id = p.id LIMIT 1) j
), gone AS (
    DELETE FROM jobq.ready WHERE ctid = ANY(ARRAY(SELECT row FROM picked))
), started AS (
    INSERT INTO jobq.running (
        id, lease, started_at, pending_since, run_at, deadline, worker, size, priority, attempt, flags, keyed, queue,
        kind, extra
    )
    SELECT t.id, t.lease, t.now, t.since, t.run_at, t.deadline, $1, t.size, t.priority, t.number, t.flags, t.keyed,
        t.queue, t.kind, t.extra
    FROM taken t
)
SELECT json_build_object(
        'alive', w.alive, 'fresh', w.fresh, 'paused', w.paused,
        'picked', (SELECT count(*) FROM picked),
        'more', coalesce((SELECT jobs FROM fitting) < (SELECT count(*) FROM locked), false)
    ),
    NULL::uuid, NULL::bigint, NULL::text, NULL::text, NULL::json, NULL::integer, NULL::smallint, NULL::smallint,
    NULL::float8, NULL::float8, NULL::json, NULL::text, NULL::text[], NULL::json
FROM worker w
UNION ALL
SELECT NULL, t.id, t.lease, t.queue, t.kind, t.arguments, t.number, t.max_attempts, t.priority, t.timeout,
    CASE
        WHEN isfinite(t.due) THEN extract(epoch FROM t.due - t.now)::float8
        WHEN t.due < 'infinity' THEN 0
    END,
    t.backoff, t.run_id, t.tags, t.meta
FROM taken t
