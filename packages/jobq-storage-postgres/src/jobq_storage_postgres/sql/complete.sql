-- Settle completed runs: `settle` for the most common case. Answers how many took effect; unless all did, also the ids
-- and leases of those, and the states that the others led to before. $1 job ids (sorted), $2 leases, $3 results.
-- Each row is looked up by itself and locked, so that statistics do not change the plan. It is deleted by its id, not
-- by its ctid: a version that an update made after this statement began can be locked, but the DELETE does not find it.
WITH held AS MATERIALIZED (
    SELECT r.*, g.result, jobq.clock() AS now
    FROM unnest($1::uuid[], $2::bigint[], $3::json[]) AS g(id, lease, result)
    CROSS JOIN LATERAL (
        SELECT r.* FROM jobq.running r WHERE r.id = g.id AND r.lease = g.lease LIMIT 1 FOR UPDATE
    ) r
), gone AS (
    DELETE FROM jobq.running WHERE id = ANY(ARRAY(SELECT id FROM held))
), finished AS (
    INSERT INTO jobq.outcome (
        id, finished_at, started_at, run_at, lease, worker, attempt, flags, state, queue, kind, settled, result, percent,
        message, details, extra
    )
    SELECT h.id, h.now, h.started_at, h.run_at, h.lease, h.worker, h.attempt, h.flags, 'completed', h.queue, h.kind,
        'completed', h.result, h.percent, h.message, h.details, h.extra
    FROM held h
), freed AS (
    DELETE FROM jobq.unique_key WHERE job = ANY(ARRAY(SELECT id FROM held WHERE keyed))
), counted AS (
    INSERT INTO jobq.tally (at, jobs, waited, ran, queue, kind, state, buckets)
    SELECT max(now), count(*), sum(t.waited), sum(t.ran), queue, kind, 'completed',
        array_agg((128 * jobq.bucket(t.waited) + jobq.bucket(t.ran))::smallint)
    FROM held
    CROSS JOIN LATERAL (
        SELECT date_part('epoch', started_at - pending_since) AS waited, date_part('epoch', now - started_at) AS ran
    ) t
    GROUP BY queue, kind
), unknown AS MATERIALIZED (
    -- The earlier states of those that did not take effect; not looked for if all did.
    SELECT s.id, s.lease, s.settled
    FROM unnest($1::uuid[], $2::bigint[]) AS g(id, lease)
    CROSS JOIN LATERAL (SELECT s.id, s.lease, s.settled FROM jobq.job_state s WHERE s.id = g.id LIMIT 1) s
    WHERE (SELECT count(*) FROM held) < cardinality($1) AND s.lease = g.lease AND s.settled IS NOT NULL
)
SELECT count(*), CASE WHEN count(*) < cardinality($1) THEN array_agg(id) END,
    CASE WHEN count(*) < cardinality($1) THEN array_agg(lease) END,
    (SELECT json_agg(json_build_array(u.id, u.lease, u.settled)) FROM unknown u)
FROM held
