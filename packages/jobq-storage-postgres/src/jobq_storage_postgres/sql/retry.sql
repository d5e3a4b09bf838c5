-- Retry failed and aborted jobs; answers as `abort` does. A job takes its unique key again, in the queue where it was
-- added, and stays as it is if another job has the key now. A key that an open transaction holds is waited for, for a
-- second; then this fails, and `busy_key` names it. $1 job ids (sorted), $2 their order in the batch.
WITH given AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::integer[]) AS g(id, ord)
), ended AS MATERIALIZED (
    SELECT o.id, o.state, o.queue, o.lease, o.worker, o.flags, o.started_at, o.run_at, o.settled, o.extra, j.kind,
        j.deadline, j.queue AS key_queue, j.unique_key, octet_length(j.arguments::text) AS size, g.ord,
        coalesce((o.extra ->> 'priority')::smallint, j.priority) AS priority
    FROM given g
    CROSS JOIN LATERAL (
        SELECT o.* FROM jobq.outcome o WHERE o.id = g.id AND o.state IN ('failed', 'aborted') LIMIT 1 FOR UPDATE
    ) o
    CROSS JOIN LATERAL (SELECT j.* FROM jobq.job j WHERE j.id = g.id LIMIT 1) j
), over AS (
    DELETE FROM jobq.unique_key k
    WHERE k.until <= jobq.clock() AND k.job = ANY(ARRAY(
        SELECT k.job
        FROM ended e
        CROSS JOIN LATERAL (
            SELECT k.* FROM jobq.unique_key k WHERE k.queue = e.key_queue AND k.key = e.unique_key LIMIT 1
        ) k
        WHERE k.until <= jobq.clock()
    ))
    RETURNING k.job
), taken AS (
    INSERT INTO jobq.unique_key (queue, key, job)
    SELECT key_queue, unique_key, id FROM ended
    WHERE unique_key IS NOT NULL AND (SELECT count(*) FROM over) IS NOT NULL
        AND set_config('lock_timeout', '1s', true) IS NOT NULL
    ORDER BY key_queue, unique_key, ord
    ON CONFLICT (queue, key) DO NOTHING
    RETURNING job
), going AS MATERIALIZED (
    SELECT e.*, e.unique_key IS NULL OR e.id IN (SELECT job FROM taken) AS goes, e.flags & 1 <> 0 AS gated FROM ended e
), gone AS (
    DELETE FROM jobq.outcome WHERE id = ANY(ARRAY(SELECT id FROM going WHERE goes))
), kept_back AS (
    INSERT INTO jobq.waiting (
        id, position, since, started_at, deadline, lease, worker, size, priority, attempt, flags, keyed, state, queue,
        kind, reason, settled, extra
    )
    SELECT g.id, nextval('jobq.position'), jobq.clock(), g.started_at, g.deadline, g.lease, g.worker, g.size,
        g.priority, 0, g.flags, g.unique_key IS NOT NULL, 'blocked', g.queue, g.kind, 'gated', g.settled, g.extra
    FROM (SELECT * FROM going WHERE goes AND gated ORDER BY ord) g
), back AS (
    INSERT INTO jobq.ready (
        id, position, since, run_at, started_at, deadline, lease, worker, size, rank, priority, attempt, flags, keyed,
        queue, kind, settled, extra
    )
    SELECT g.id, nextval('jobq.position'), jobq.clock(), g.run_at, g.started_at, g.deadline, g.lease, g.worker, g.size,
        g.priority, g.priority, 0, g.flags, g.unique_key IS NOT NULL, g.queue, g.kind, g.settled, g.extra
    FROM (SELECT * FROM going WHERE goes AND NOT gated ORDER BY ord) g
), counted AS (
    INSERT INTO jobq.tally (finished, queue, kind, state)
    SELECT -count(*), queue, kind, state FROM going WHERE goes GROUP BY queue, kind, state
)
SELECT id, state, CASE WHEN NOT goes THEN state WHEN gated THEN 'blocked' ELSE 'pending' END, false, queue FROM going
UNION ALL
SELECT s.id, s.state, s.state, false, s.queue
FROM given g
CROSS JOIN LATERAL (SELECT s.* FROM jobq.job_state s WHERE s.id = g.id LIMIT 1) s
WHERE s.state NOT IN ('failed', 'aborted')
UNION ALL
SELECT g.id, NULL, NULL, false, NULL
FROM given g
WHERE NOT EXISTS (SELECT FROM jobq.job j WHERE j.id = g.id)
