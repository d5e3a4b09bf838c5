-- Settle runs of all endings: `jobq_core.states.state_after` as SQL. Answers id, lease, state and queue of those that
-- took effect; and without a queue: the states that others led to before, and 'busy' for those whose rows another
-- transaction holds. A row of NULLs says that a job with a follow-up failed.
-- $1 job ids (sorted), $2 leases, $3 their order in the batch, $4 endings, $5 results, $6 error types, $7 messages,
-- $8 tracebacks, $9 times of the next run, $10 or seconds until it, $11 reasons; progress: $12 percentages, $13 messages
-- and $14 details; $15 declarations that refused a job.
WITH moment AS MATERIALIZED (
    SELECT jobq.clock() AS now
), given AS MATERIALIZED (
    SELECT g.*, moment.now, coalesce(g.at, moment.now + make_interval(secs => g.after)) AS again_at
    FROM moment, unnest(
        $1::uuid[], $2::bigint[], $3::integer[], $4::text[], $5::json[], $6::text[], $7::text[], $8::text[],
        $9::timestamptz[], $10::float8[], $11::text[], $12::float8[], $13::text[], $14::json[], $15::text[]
    ) AS g(
        id, lease, ord, ending, result, error_type, error_message, error_traceback, at, after, reason, percent, message,
        details, declaration
    )
), held AS MATERIALIZED (
    SELECT r.id, r.lease, r.started_at, r.pending_since, r.deadline, r.worker, r.size, r.priority, r.flags, r.queue,
        r.kind, r.keyed, g.ord, g.now, r.attempt AS number, s.state, e.counts,
        greatest(r.attempt - (NOT e.counts)::integer, 0) AS attempt,
        NOT e.counts AND g.ending <> 'snooze' AS returned,
        e.went_wrong, CASE WHEN e.went_wrong THEN g.error_type END AS error_type,
        CASE WHEN e.went_wrong THEN g.error_message END AS error_message,
        CASE WHEN e.went_wrong THEN g.error_traceback END AS error_traceback,
        CASE WHEN s.state = 'completed' THEN g.result END AS result,
        CASE WHEN g.percent IS NULL THEN r.percent ELSE g.percent END AS percent,
        CASE WHEN g.percent IS NULL THEN r.message ELSE g.message END AS message,
        CASE WHEN g.percent IS NULL THEN r.details ELSE g.details END AS details,
        CASE WHEN g.ending = 'suspend' AND g.declaration IS NOT NULL THEN jsonb_set(
            coalesce(r.extra, '{}'), '{refused}',
            jsonb_path_query_array(coalesce(r.extra -> 'refused', '[]'), '$[last - 18 to last]')
                || to_jsonb(g.declaration)
        ) ELSE r.extra END AS extra,
        CASE
            WHEN s.state = 'blocked' AND g.ending = 'suspend' THEN NULL
            WHEN s.state IN ('scheduled', 'blocked') THEN g.again_at
            WHEN s.state <> 'gated' THEN r.run_at
        END AS run_at,
        CASE s.state
            WHEN 'gated' THEN 'gated'
            WHEN 'scheduled' THEN coalesce(g.reason, CASE g.ending WHEN 'snooze' THEN 'snoozed' ELSE 'backoff' END)
            WHEN 'blocked' THEN coalesce(g.reason, 'released')
            WHEN 'disabled' THEN coalesce(g.reason, 'disabled')
            WHEN 'aborted' THEN coalesce(g.reason, 'aborted')
            WHEN 'failed' THEN g.reason
        END AS reason
    FROM given g
    CROSS JOIN LATERAL (
        SELECT r.* FROM jobq.running r WHERE r.id = g.id AND r.lease = g.lease LIMIT 1 FOR UPDATE SKIP LOCKED
    ) r
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN g.ending = 'complete' THEN 'completed'
            WHEN r.request = 'abort' THEN 'aborted'
            WHEN r.request = 'disable' THEN 'disabled'
            WHEN g.ending = 'fail' THEN 'failed'
            WHEN g.ending = 'abort' THEN 'aborted'
            WHEN g.ending = 'hold' THEN 'disabled'
            WHEN g.ending = 'suspend' THEN 'blocked'
            WHEN g.again_at > g.now AND g.ending = 'release' THEN 'blocked'
            WHEN g.again_at > g.now AND g.ending <> 'disable' THEN 'scheduled'
            WHEN r.flags & 1 <> 0 THEN 'gated'
            ELSE 'pending'
        END AS state,
        g.ending NOT IN ('release', 'snooze', 'suspend') AND (g.ending <> 'disable' OR r.request IS NOT NULL) AS counts
    ) s
    CROSS JOIN LATERAL (
        SELECT s.counts, s.counts AND g.ending <> 'complete' AND g.error_type IS NOT NULL AS went_wrong
    ) e
), gone AS (
    DELETE FROM jobq.running WHERE id = ANY(ARRAY(SELECT id FROM held))
), finished AS (
    INSERT INTO jobq.outcome (
        id, finished_at, started_at, run_at, lease, worker, attempt, flags, state, queue, kind, settled, reason, result,
        percent, message, details, extra, error_type, error_message, error_traceback
    )
    SELECT h.id, h.now, h.started_at, h.run_at, h.lease, h.worker, h.attempt, h.flags, h.state, h.queue, h.kind, h.state,
        h.reason, h.result, h.percent, h.message, h.details, h.extra, h.error_type, h.error_message, h.error_traceback
    FROM held h
    WHERE h.state IN ('completed', 'failed', 'aborted')
), followed AS (
    INSERT INTO jobq.ended (id, at, queue, state, failed)
    SELECT h.id, h.now, h.queue, h.state, CASE WHEN h.flags & 4 <> 0 AND h.state = 'failed' THEN
        jobq.failed_job(h.id, h.queue, h.error_type, h.error_message, h.error_traceback)
    END
    FROM held h
    WHERE h.flags & 6 <> 0 AND h.state IN ('completed', 'failed', 'aborted') AND (h.flags & 2 <> 0 OR h.state = 'failed')
    RETURNING failed
), kept_back AS (
    INSERT INTO jobq.waiting (
        id, position, since, run_at, started_at, deadline, lease, worker, size, priority, attempt, flags, keyed, state,
        queue, kind, reason, settled, percent, message, details, extra, error_type, error_message, error_traceback
    )
    SELECT h.id, nextval('jobq.position'), h.now, h.run_at, h.started_at, h.deadline, h.lease, h.worker, h.size,
        h.priority, h.attempt, h.flags, h.keyed, s.state, h.queue, h.kind, h.reason, s.state, h.percent, h.message,
        h.details, h.extra, e.type, e.message, e.traceback
    FROM (SELECT * FROM held WHERE state IN ('scheduled', 'blocked', 'gated', 'disabled') ORDER BY ord) h
    CROSS JOIN LATERAL (SELECT CASE h.state WHEN 'gated' THEN 'blocked' ELSE h.state END AS state) s
    LEFT JOIN LATERAL (
        SELECT h.error_type AS type, h.error_message AS message, h.error_traceback AS traceback
        WHERE h.state = 'disabled'
    ) e ON true
), lined AS (
    INSERT INTO jobq.line (queue, rank)
    SELECT DISTINCT h.queue, 101
    FROM held h
    WHERE h.state = 'pending' AND h.returned
        AND NOT EXISTS (SELECT FROM jobq.line l WHERE l.queue = h.queue AND l.rank = 101)
), again AS (
    INSERT INTO jobq.ready (
        id, position, since, run_at, started_at, deadline, lease, worker, size, rank, priority, attempt, flags, keyed,
        queue, kind, reason, settled, percent, message, details, extra
    )
    SELECT h.id, nextval('jobq.position'), h.now, h.run_at, h.started_at, h.deadline, h.lease, h.worker, h.size,
        CASE WHEN h.returned THEN 101 ELSE h.priority END, h.priority, h.attempt, h.flags, h.keyed, h.queue, h.kind,
        h.reason, h.state, h.percent, h.message, h.details, h.extra
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
        AND until IS NULL
), counted AS (
    INSERT INTO jobq.tally (at, finished, jobs, waited, ran, queue, kind, state, buckets)
    SELECT max(h.now), count(*), count(*),
        greatest(date_part('epoch', sum(h.started_at - h.pending_since) FILTER (WHERE h.counts)), 0),
        greatest(date_part('epoch', sum(h.now - h.started_at) FILTER (WHERE h.counts)), 0), h.queue, h.kind, h.state,
        array_agg((128 * jobq.bucket(h.started_at - h.pending_since) + jobq.bucket(h.now - h.started_at))::smallint)
            FILTER (WHERE h.counts)
    FROM held h
    WHERE h.state IN ('completed', 'failed', 'aborted')
    GROUP BY h.queue, h.kind, h.state
), unknown AS MATERIALIZED (
    -- Those that did not take effect; not looked for if all did.
    SELECT s.id, s.lease, CASE s.state WHEN 'processing' THEN 'busy' ELSE s.settled END AS state
    FROM unnest($1::uuid[], $2::bigint[]) AS g(id, lease)
    CROSS JOIN LATERAL (SELECT s.id, s.lease, s.state, s.settled FROM jobq.job_state s WHERE s.id = g.id LIMIT 1) s
    WHERE (SELECT count(*) FROM held) < cardinality($1) AND s.lease = g.lease
        AND (s.settled IS NOT NULL OR s.state = 'processing')
        AND NOT EXISTS (SELECT FROM held h WHERE h.id = g.id AND h.lease = g.lease)
)
SELECT id, lease, CASE state WHEN 'gated' THEN 'blocked' ELSE state END, queue FROM held
UNION ALL
SELECT id, lease, state, NULL FROM unknown
UNION ALL
(SELECT NULL, NULL, NULL, NULL FROM followed WHERE failed IS NOT NULL LIMIT 1)
