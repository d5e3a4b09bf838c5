-- Settle completed runs: `settle` for the commonest case. $1 job ids (sorted), $2 leases, $3 results.
-- Answers how many took effect, and, unless all did, ids and leases of those, and what the others led to before.
-- Each row is looked up by itself and locked, so that no statistics change the plan, then deleted by its id: not by its
-- ctid, since a version that an update made after this statement began can be locked, but not be found by the DELETE.
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
        id, finished_at, started_at, run_at, lease, worker, attempt, state, queue, settled, result, percent, message, details
    )
    SELECT h.id, h.now, h.started_at, h.run_at, h.lease, h.worker, h.attempt, 'completed', h.queue, 'completed', h.result,
        h.percent, h.message, h.details
    FROM held h
), freed AS (
    DELETE FROM jobq.unique_key WHERE job = ANY(ARRAY(SELECT id FROM held WHERE keyed))
), counted AS (
    INSERT INTO jobq.tally (jobs, queue, state) SELECT count(*), queue, 'completed' FROM held GROUP BY queue
), unknown AS MATERIALIZED (
    -- Only where some did not take effect, of those what they led to before.
    SELECT p.id, p.lease, p.settled
    FROM unnest($1::uuid[], $2::bigint[]) AS g(id, lease)
    CROSS JOIN LATERAL (SELECT p.id, p.lease, p.settled FROM jobq.job_state p WHERE p.id = g.id LIMIT 1) p
    WHERE (SELECT count(*) FROM held) < cardinality($1) AND p.lease = g.lease AND p.settled IS NOT NULL
)
SELECT count(*), CASE WHEN count(*) < cardinality($1) THEN array_agg(id) END,
    CASE WHEN count(*) < cardinality($1) THEN array_agg(lease) END,
    (SELECT json_agg(json_build_array(u.id, u.lease, u.settled)) FROM unknown u)
FROM held
