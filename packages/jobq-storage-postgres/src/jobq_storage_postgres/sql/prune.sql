-- Delete finished jobs whose retention is over, oldest first; answers how many. $1 limit; seconds that queues without a
-- retention of their own keep $2 completed, $3 failed and $4 aborted jobs.
-- A job ends after the time in its id, so the index by id shows where to stop. Ids of the future are read as well. At
-- most $5 jobs of each queue, kind and state are looked at. Answers too where the next call goes on, for those that have
-- more which are to be kept; $6 queues, $7 kinds, $8 states and $9 ids say so for this call.
WITH moment AS MATERIALIZED (
    SELECT jobq.clock() AS now
), lines AS MATERIALIZED (
    SELECT t.queue, t.kind, t.state, moment.now - make_interval(secs => CASE t.state
        WHEN 'completed' THEN CASE WHEN q.has_retention IS NOT TRUE THEN $2::float8 ELSE q.completed END
        WHEN 'failed' THEN CASE WHEN q.has_retention IS NOT TRUE THEN $3::float8 ELSE q.failed END
        ELSE CASE WHEN q.has_retention IS NOT TRUE THEN $4::float8 ELSE q.aborted END
    END) AS until, coalesce(n.low, '00000000-0000-0000-0000-000000000000') AS low
    FROM moment, (SELECT queue, kind, state FROM jobq.tally GROUP BY queue, kind, state HAVING sum(finished) > 0) t
    LEFT JOIN jobq.queue q ON q.name = t.queue
    LEFT JOIN unnest($6::text[], $7::text[], $8::text[], $9::uuid[]) AS n(queue, kind, state, low)
        ON (n.queue, n.kind, n.state) = (t.queue, t.kind, t.state)
), over AS MATERIALIZED (
    SELECT o.id
    FROM lines l
    CROSS JOIN moment
    CROSS JOIN LATERAL (VALUES
        (l.low, jobq.first_id_at(l.until + interval '1 minute')),
        (jobq.first_id_at(moment.now + interval '1 minute'), 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    ) ids(low, high)
    CROSS JOIN LATERAL (
        SELECT o.id
        FROM (
            SELECT o.id, o.finished_at FROM jobq.outcome o
            WHERE hashtext(o.queue) # hashtext(o.kind || o.state) = hashtext(l.queue) # hashtext(l.kind || l.state)
                AND o.queue = l.queue AND o.kind = l.kind
                AND o.state = l.state AND o.id BETWEEN ids.low AND ids.high
            ORDER BY o.id
            LIMIT $5::bigint
        ) o
        WHERE o.finished_at <= l.until
        LIMIT $1::bigint
    ) old
    CROSS JOIN LATERAL (SELECT o.id FROM jobq.outcome o WHERE o.id = old.id LIMIT 1 FOR UPDATE SKIP LOCKED) o
    LIMIT $1::bigint
), gone AS (
    DELETE FROM jobq.outcome WHERE id = ANY(ARRAY(SELECT id FROM over ORDER BY id)) RETURNING id, queue, kind, state
), jobs AS (
    DELETE FROM jobq.job WHERE id = ANY(ARRAY(SELECT id FROM gone ORDER BY id))
), tags AS (
    DELETE FROM jobq.job_tag WHERE id = ANY(ARRAY(SELECT id FROM gone ORDER BY id))
), tries AS (
    DELETE FROM jobq.attempt WHERE job = ANY(ARRAY(SELECT id FROM gone ORDER BY id))
), logs AS (
    DELETE FROM jobq.job_log WHERE job = ANY(ARRAY(SELECT id FROM gone ORDER BY id))
), counted AS (
    INSERT INTO jobq.tally (finished, queue, kind, state)
    SELECT -count(*), queue, kind, state FROM gone GROUP BY queue, kind, state
)
SELECT (SELECT count(*) FROM gone), l.queue, l.kind, l.state, o.id
FROM (SELECT) one
LEFT JOIN (
    lines l
    CROSS JOIN LATERAL (
        SELECT o.id FROM jobq.outcome o
        WHERE hashtext(o.queue) # hashtext(o.kind || o.state) = hashtext(l.queue) # hashtext(l.kind || l.state)
                AND o.queue = l.queue AND o.kind = l.kind
                AND o.state = l.state
            AND o.id BETWEEN l.low AND jobq.first_id_at(l.until + interval '1 minute')
        ORDER BY o.id
        OFFSET $5
        LIMIT 1
    ) o
) ON (SELECT count(*) FROM over) < $1
