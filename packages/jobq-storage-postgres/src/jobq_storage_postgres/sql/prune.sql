-- Delete finished jobs whose retention is over, oldest first; answers how many. $1 limit; seconds that queues without a
-- retention of their own keep $2 completed, $3 failed and $4 aborted jobs.
WITH moment AS MATERIALIZED (
    SELECT jobq.clock() AS now
), lines AS MATERIALIZED (
    SELECT t.queue, t.state, moment.now - make_interval(secs => CASE t.state
        WHEN 'completed' THEN CASE WHEN q.has_retention IS NOT TRUE THEN $2::float8 ELSE q.completed END
        WHEN 'failed' THEN CASE WHEN q.has_retention IS NOT TRUE THEN $3::float8 ELSE q.failed END
        ELSE CASE WHEN q.has_retention IS NOT TRUE THEN $4::float8 ELSE q.aborted END
    END) AS until
    FROM moment, (SELECT queue, state FROM jobq.tally GROUP BY queue, state HAVING sum(jobs) > 0) t
    LEFT JOIN jobq.queue q ON q.name = t.queue
), over AS MATERIALIZED (
    SELECT o.id
    FROM lines l
    CROSS JOIN LATERAL (
        SELECT o.id FROM jobq.outcome o
        WHERE o.queue = l.queue AND o.state = l.state AND o.finished_at <= l.until
        ORDER BY o.finished_at
        LIMIT $1::bigint
        FOR UPDATE SKIP LOCKED
    ) o
    LIMIT $1::bigint
), gone AS (
    DELETE FROM jobq.outcome WHERE id = ANY(ARRAY(SELECT id FROM over ORDER BY id)) RETURNING id, queue, state
), jobs AS (
    DELETE FROM jobq.job WHERE id = ANY(ARRAY(SELECT id FROM gone ORDER BY id)) RETURNING id, kind
), tries AS (
    DELETE FROM jobq.attempt WHERE job = ANY(ARRAY(SELECT id FROM gone ORDER BY id))
), counted AS (
    INSERT INTO jobq.tally (jobs, queue, kind, state)
    SELECT -count(*), g.queue, coalesce(j.kind, ''), g.state
    FROM gone g
    LEFT JOIN jobs j ON j.id = g.id
    GROUP BY g.queue, j.kind, g.state
)
SELECT count(*) FROM gone
