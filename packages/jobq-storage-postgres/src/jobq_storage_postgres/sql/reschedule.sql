-- Let jobs wait until another moment, or run them now; answers as `abort` does, with whether a job was altered in the
-- place of whether it was asked. $1 job ids (sorted), $2 their order in the batch, $3 the moment. One that has come, or
-- NULL, makes those that wait for a time PENDING, and gated ones wait on for `admit`. NULL leaves DISABLED jobs alone.
WITH moment AS MATERIALIZED (
    SELECT n.now, $3::timestamptz > n.now AS ahead FROM (SELECT jobq.clock() AS now) n
), given AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::integer[]) AS g(id, ord)
), kept_back AS MATERIALIZED (
    SELECT w.id, w.state, w.queue, w.flags & 1 <> 0 AS gated, CASE
            WHEN w.state = 'disabled' THEN CASE WHEN $3 IS NOT NULL THEN 'disabled' END
            WHEN m.ahead THEN CASE w.state WHEN 'scheduled' THEN 'scheduled' END
            WHEN w.run_at IS NOT NULL THEN 'due'
        END AS goal
    FROM moment m, jobq.waiting w
    WHERE w.id = ANY($1::uuid[])
    ORDER BY w.id
    FOR UPDATE OF w
), pending AS MATERIALIZED (
    SELECT r.id, r.queue, m.ahead FROM moment m, jobq.ready r WHERE r.id = ANY($1) ORDER BY r.id FOR UPDATE OF r
), timed AS (
    UPDATE jobq.waiting w SET run_at = $3, reason = CASE w.state WHEN 'scheduled' THEN 'delayed' ELSE w.reason END
    WHERE w.id = ANY(ARRAY(SELECT id FROM kept_back WHERE goal IN ('scheduled', 'disabled')))
), gated AS (
    UPDATE jobq.waiting SET state = 'blocked', reason = 'gated', since = (SELECT now FROM moment), run_at = NULL
    WHERE id = ANY(ARRAY(SELECT id FROM kept_back WHERE goal = 'due' AND gated))
), from_waiting AS (
    DELETE FROM jobq.waiting
    WHERE id = ANY(ARRAY(SELECT id FROM kept_back WHERE goal = 'due' AND NOT gated))
    RETURNING *
), freed AS (
    INSERT INTO jobq.ready (
        id, position, since, started_at, deadline, lease, worker, size, rank, priority, attempt, flags, keyed, queue,
        kind, settled, percent, message, details, extra
    )
    SELECT f.id, nextval('jobq.position'), moment.now, f.started_at, f.deadline, f.lease, f.worker, f.size, f.priority,
        f.priority, f.attempt, f.flags, f.keyed, f.queue, f.kind, f.settled, f.percent, f.message, f.details, f.extra
    FROM moment, (SELECT w.* FROM from_waiting w JOIN given g ON g.id = w.id ORDER BY g.ord) f
), from_ready AS (
    DELETE FROM jobq.ready WHERE id = ANY(ARRAY(SELECT id FROM pending WHERE ahead)) RETURNING *
), later AS (
    INSERT INTO jobq.waiting (
        id, position, since, run_at, started_at, deadline, lease, worker, size, priority, attempt, flags, keyed, state,
        queue, kind, reason, settled, percent, message, details, extra
    )
    SELECT f.id, nextval('jobq.position'), moment.now, $3, f.started_at, f.deadline, f.lease, f.worker, f.size,
        f.priority, f.attempt, f.flags, f.keyed, 'scheduled', f.queue, f.kind, 'delayed', f.settled, f.percent,
        f.message, f.details, f.extra
    FROM moment, (SELECT r.* FROM from_ready r JOIN given g ON g.id = r.id ORDER BY g.ord) f
)
SELECT id, state, CASE WHEN goal <> 'due' OR goal IS NULL THEN state WHEN gated THEN 'blocked' ELSE 'pending' END,
    goal IS NOT NULL, queue
FROM kept_back
UNION ALL
SELECT id, 'pending', CASE WHEN ahead THEN 'scheduled' ELSE 'pending' END, coalesce(ahead, false), queue FROM pending
UNION ALL
{elsewhere}
