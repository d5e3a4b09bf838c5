-- Settle runs of all endings: `jobq_core.states.state_after` as SQL. Answers id, lease, state and queue of those that
-- took effect, and, without a queue, the states that the others led to before.
-- $1 job ids (sorted), $2 leases, $3 their order in the batch, $4 endings, $5 results, $6 error types, $7 messages,
-- $8 tracebacks, $9 times of the next run, $10 or seconds until it, $11 reasons.
WITH moment AS MATERIALIZED (
    SELECT jobq.clock() AS now
), given AS MATERIALIZED (
    SELECT g.*, coalesce(g.at, moment.now + make_interval(secs => g.after)) AS again_at
    FROM moment, unnest(
        $1::uuid[], $2::bigint[], $3::integer[], $4::text[], $5::json[], $6::text[], $7::text[], $8::text[],
        $9::timestamptz[], $10::float8[], $11::text[]
    ) AS g(id, lease, ord, ending, result, error_type, error_message, error_traceback, at, after, reason)
), held AS MATERIALIZED (
    SELECT r.id, r.lease, r.started_at, r.pending_since, r.deadline, r.worker, r.size, r.priority, r.flags, r.queue,
        r.kind, r.percent, r.message, r.details, r.extra, r.keyed, g.ord, g.ending, g.error_type, g.error_message,
        g.error_traceback, moment.now, s.state,
        r.attempt AS number,
        greatest(r.attempt - (g.ending = 'release')::integer, 0) AS attempt,
        g.ending NOT IN ('complete', 'release') AND g.error_type IS NOT NULL AS went_wrong,
        CASE WHEN s.state IN ('scheduled', 'blocked') THEN g.again_at ELSE r.run_at END AS run_at,
        CASE WHEN s.state = 'completed' THEN g.result END AS result,
        coalesce(g.reason, CASE s.state
            WHEN 'scheduled' THEN 'backoff'
            WHEN 'blocked' THEN 'released'
            WHEN 'disabled' THEN 'disabled'
            WHEN 'aborted' THEN 'aborted'
        END) AS reason
    FROM moment, given g
    CROSS JOIN LATERAL (
        SELECT r.* FROM jobq.running r WHERE r.id = g.id AND r.lease = g.lease LIMIT 1 FOR UPDATE
    ) r
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN g.ending = 'complete' THEN 'completed'
            WHEN g.ending = 'abort' THEN 'aborted'
            WHEN g.ending IN ('disable', 'hold') OR r.request = 'disable' THEN 'disabled'
            WHEN g.ending = 'fail' THEN 'failed'
            WHEN r.request = 'abort' THEN 'aborted'
            WHEN g.again_at > moment.now THEN CASE g.ending WHEN 'retry' THEN 'scheduled' ELSE 'blocked' END
            ELSE 'pending'
        END AS state
    ) s
), gone AS (
    DELETE FROM jobq.running WHERE id = ANY(ARRAY(SELECT id FROM held))
), finished AS (
    INSERT INTO jobq.outcome (
        id, finished_at, started_at, run_at, lease, worker, attempt, flags, state, queue, kind, settled, reason, result,
        percent, message, details, extra, error_type, error_message, error_traceback
    )
    SELECT h.id, h.now, h.started_at, h.run_at, h.lease, h.worker, h.attempt, h.flags, h.state, h.queue, h.kind, h.state,
        h.reason, h.result, h.percent, h.message, h.details, h.extra, e.type, e.message, e.traceback
    FROM held h
    LEFT JOIN LATERAL (
        SELECT h.error_type AS type, h.error_message AS message, h.error_traceback AS traceback WHERE h.went_wrong
    ) e ON true
    WHERE h.state IN ('completed', 'failed', 'aborted')
), kept_back AS (
    INSERT INTO jobq.waiting (
        id, position, since, run_at, started_at, deadline, lease, worker, size, priority, attempt, flags, keyed, state,
        queue, kind, reason, settled, percent, message, details, extra, error_type, error_message, error_traceback
    )
    SELECT h.id, nextval('jobq.position'), h.now, h.run_at, h.started_at, h.deadline, h.lease, h.worker, h.size,
        h.priority, h.attempt, h.flags, h.keyed, h.state, h.queue, h.kind, h.reason, h.state, h.percent, h.message,
        h.details, h.extra, e.type, e.message, e.traceback
    FROM (SELECT * FROM held WHERE state IN ('scheduled', 'blocked', 'disabled') ORDER BY ord) h
    LEFT JOIN LATERAL (
        SELECT h.error_type AS type, h.error_message AS message, h.error_traceback AS traceback
        WHERE h.went_wrong AND h.state <> 'scheduled'
    ) e ON true
), again AS (
    INSERT INTO jobq.ready (
        id, position, since, run_at, started_at, deadline, lease, worker, size, rank, priority, attempt, flags, keyed,
        queue, kind, reason, settled, percent, message, details, extra
    )
    SELECT h.id, nextval('jobq.position'), h.now, h.run_at, h.started_at, h.deadline, h.lease, h.worker, h.size,
        h.priority, h.priority, h.attempt, h.flags, h.keyed, h.queue, h.kind, h.reason, h.state, h.percent, h.message,
        h.details, h.extra
    FROM (SELECT * FROM held WHERE state = 'pending' ORDER BY ord) h
), tried AS (
    INSERT INTO jobq.attempt (
        job, lease, started_at, finished_at, worker, number, error_type, error_message, error_traceback
    )
    SELECT h.id, h.lease, h.started_at, h.now, h.worker, h.number, h.error_type, h.error_message, h.error_traceback
    FROM held h
    WHERE h.went_wrong
), freed AS (
    DELETE FROM jobq.unique_key
    WHERE job = ANY(ARRAY(SELECT id FROM held WHERE keyed AND state IN ('completed', 'failed', 'aborted')))
), counted AS (
    INSERT INTO jobq.tally (at, jobs, waited, ran, queue, kind, state, buckets)
    SELECT max(now), count(*), sum(t.waited), sum(t.ran), queue, kind, state,
        array_agg((128 * jobq.bucket(t.waited) + jobq.bucket(t.ran))::smallint)
    FROM held
    CROSS JOIN LATERAL (
        SELECT date_part('epoch', started_at - pending_since) AS waited, date_part('epoch', now - started_at) AS ran
    ) t
    WHERE state IN ('completed', 'failed', 'aborted')
    GROUP BY queue, kind, state
), unknown AS MATERIALIZED (
    -- The earlier states of those that did not take effect; not looked for if all did.
    SELECT s.id, s.lease, s.settled
    FROM unnest($1::uuid[], $2::bigint[]) AS g(id, lease)
    CROSS JOIN LATERAL (SELECT s.id, s.lease, s.settled FROM jobq.job_state s WHERE s.id = g.id LIMIT 1) s
    WHERE (SELECT count(*) FROM held) < cardinality($1) AND s.lease = g.lease AND s.settled IS NOT NULL
)
SELECT id, lease, state, queue FROM held
UNION ALL
SELECT id, lease, settled, NULL FROM unknown
