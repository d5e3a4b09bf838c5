-- Settle completed runs: `settle` for the most common case. Answers how many took effect; unless all did, also the ids
-- and leases of those, and what is known of the others, as `settle` does.
-- $1 job ids (sorted), $2 leases, $3 results. Completions with a progress report are left to `settle`.
-- Each row is looked up by itself and locked, so that statistics do not change the plan. It is deleted by its id, not
-- by its ctid: a version that an update made after this statement began can be locked, but the DELETE does not find it.
WITH held AS MATERIALIZED (
    SELECT r.*, g.result, jobq.clock() AS now
    FROM unnest($1::uuid[], $2::bigint[], $3::json[]) AS g(id, lease, result)
    CROSS JOIN LATERAL (
        SELECT r.* FROM jobq.running r WHERE r.id = g.id AND r.lease = g.lease LIMIT 1 FOR UPDATE SKIP LOCKED
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
), followed AS (
    INSERT INTO jobq.ended (id, at, queue, state) SELECT id, now, queue, 'completed' FROM held WHERE flags & 2 <> 0
), freed AS (
    DELETE FROM jobq.unique_key WHERE job = ANY(ARRAY(SELECT id FROM held WHERE keyed)) AND until IS NULL
), counted AS (
    INSERT INTO jobq.tally (at, finished, jobs, waited, ran, queue, kind, state, buckets)
    SELECT jobq.clock(), count(*), count(*), greatest(date_part('epoch', sum(h.started_at - h.pending_since)), 0),
        greatest(date_part('epoch', sum(h.now - h.started_at)), 0), h.queue, h.kind, 'completed',
        array_agg((128 * jobq.bucket(h.started_at - h.pending_since) + jobq.bucket(h.now - h.started_at))::smallint)
    FROM held h
    GROUP BY h.queue, h.kind
), unknown AS MATERIALIZED (
    -- Not looked for if all took effect. Those that did are among them, as 'busy': the rows are still visible here.
    SELECT s.id, s.lease, CASE s.state WHEN 'processing' THEN 'busy' ELSE s.settled END AS state
    FROM unnest($1, $2) AS g(id, lease)
    CROSS JOIN LATERAL (SELECT s.id, s.lease, s.state, s.settled FROM jobq.job_state s WHERE s.id = g.id LIMIT 1) s
    WHERE (SELECT count(*) FROM held) < cardinality($1) AND s.lease = g.lease
        AND (s.settled IS NOT NULL OR s.state = 'processing')
)
SELECT count(*), CASE WHEN count(*) < cardinality($1) THEN array_agg(id) END,
    CASE WHEN count(*) < cardinality($1) THEN array_agg(lease) END,
    (SELECT json_agg(json_build_array(u.id, u.lease, u.state)) FROM unknown u)
FROM held
