-- Settle completed runs: `settle` for the commonest case. $1 job ids (sorted), $2 leases, $3 results.
-- Answers how many took effect, and ids and leases of those unless all did.
-- Each row is looked up by itself and locked, then deleted by its place, so that no statistics change the plan.
WITH held AS MATERIALIZED (
    SELECT r.*, g.result, jobq.clock() AS now
    FROM unnest($1::uuid[], $2::bigint[], $3::json[]) AS g(id, lease, result)
    CROSS JOIN LATERAL (
        SELECT r.ctid AS place, r.* FROM jobq.running r WHERE r.id = g.id AND r.lease = g.lease LIMIT 1 FOR UPDATE
    ) r
), gone AS (
    DELETE FROM jobq.running WHERE ctid = ANY(ARRAY(SELECT place FROM held))
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
)
SELECT count(*), CASE WHEN count(*) < cardinality($1) THEN array_agg(id) END,
    CASE WHEN count(*) < cardinality($1) THEN array_agg(lease) END
FROM held
