-- Remove a worker if its heartbeat expired, and rescue jobs that it holds, or that it held if it is not registered.
-- Answers first a row with the worker's name (NULL: it was not removed here), the seconds since its last heartbeat, and
-- whether a job with a follow-up failed, then a row per job. A job whose row another transaction holds is left alone.
-- $1 worker; $2 job ids (sorted); $3 type of the error, $4 end of its message.
-- The statement that deletes the worker's row rescues the jobs: a worker that beats meanwhile keeps both.
WITH moment AS MATERIALIZED (
    SELECT jobq.clock() AS now
), lost AS MATERIALIZED (
    DELETE FROM jobq.worker
    WHERE id = ANY(ARRAY(
        SELECT w.id FROM jobq.worker w
        WHERE w.id = $1::uuid AND w.expires_at <= (SELECT now FROM moment)
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING name, greatest(extract(epoch FROM (SELECT now FROM moment) - beat_at), 0)::float8 AS silent_for
), requests AS (
    DELETE FROM jobq.worker_request WHERE worker = $1 AND EXISTS (SELECT FROM lost)
), orphans AS MATERIALIZED (
    SELECT r.*
    FROM unnest($2::uuid[]) AS g(id)
    CROSS JOIN LATERAL (
        SELECT r.* FROM jobq.running r WHERE r.id = g.id AND r.worker = $1 LIMIT 1 FOR UPDATE SKIP LOCKED
    ) r
    WHERE EXISTS (SELECT FROM lost) OR NOT EXISTS (SELECT FROM jobq.worker w WHERE w.id = $1)
), taken AS MATERIALIZED (
    -- attempts: without this one, if the run never started.
    SELECT o.*, moment.now, run.real AS ran,
        greatest(o.attempt - (NOT run.real)::integer, 0) AS attempts,
        CASE WHEN run.real THEN $3::text END AS error_type,
        CASE WHEN run.real THEN
            'worker' || coalesce(' ''' || l.name || '''', '') || ' (' || o.worker || ')' || $4::text
        END AS error_message,
        CASE
            WHEN o.request = 'abort' THEN 'aborted'
            WHEN o.request = 'disable' THEN 'disabled'
            WHEN run.real AND o.attempt >= j.max_attempts THEN 'failed'
            WHEN o.flags & 1 <> 0 THEN 'gated'
            ELSE 'pending'
        END AS state
    FROM moment, orphans o
    CROSS JOIN LATERAL (SELECT j.* FROM jobq.job j WHERE j.id = o.id LIMIT 1) j
    CROSS JOIN LATERAL (SELECT o.begun OR (o.attempt = 1 AND j.max_attempts > 1) AS real) run
    LEFT JOIN lost l ON true
), gone AS (
    -- A row whose job was deleted by hand is deleted without a trace.
    DELETE FROM jobq.running WHERE id = ANY(ARRAY(SELECT id FROM orphans))
), tried AS (
    INSERT INTO jobq.attempt (job, lease, started_at, finished_at, worker, number, error_type, error_message)
    SELECT t.id, t.lease, t.started_at, t.now, t.worker, t.attempt, t.error_type, t.error_message
    FROM taken t
    WHERE t.ran
), finished AS (
    INSERT INTO jobq.outcome (
        id, finished_at, started_at, run_at, lease, worker, attempt, flags, state, queue, kind, reason, percent,
        message, details, extra, error_type, error_message
    )
    SELECT t.id, t.now, t.started_at, t.run_at, t.lease, t.worker, t.attempts, t.flags, t.state, t.queue, t.kind,
        CASE t.state WHEN 'failed' THEN 'worker lost' ELSE 'aborted' END, t.percent, t.message, t.details, t.extra,
        t.error_type, t.error_message
    FROM taken t
    WHERE t.state IN ('failed', 'aborted')
), followed AS (
    INSERT INTO jobq.ended (id, at, queue, state, failed)
    SELECT t.id, t.now, t.queue, t.state, CASE WHEN t.flags & 4 <> 0 AND t.state = 'failed' THEN
        jobq.failed_job(t.id, t.queue, t.error_type, t.error_message, NULL)
    END
    FROM taken t
    WHERE t.flags & 6 <> 0 AND t.state IN ('failed', 'aborted') AND (t.flags & 2 <> 0 OR t.state = 'failed')
    RETURNING failed
), kept_back AS (
    INSERT INTO jobq.waiting (
        id, position, since, run_at, started_at, deadline, lease, worker, size, priority, attempt, flags, keyed, state,
        queue, kind, reason, percent, message, details, extra, error_type, error_message
    )
    SELECT t.id, nextval('jobq.position'), t.now, CASE t.state WHEN 'disabled' THEN t.run_at END, t.started_at,
        t.deadline, t.lease, t.worker, t.size, t.priority, t.attempts, t.flags, t.keyed,
        CASE t.state WHEN 'gated' THEN 'blocked' ELSE t.state END, t.queue, t.kind, t.state, t.percent, t.message,
        t.details, t.extra, e.error_type, e.error_message
    FROM taken t
    LEFT JOIN LATERAL (SELECT t.error_type, t.error_message WHERE t.state = 'disabled') e ON true
    WHERE t.state IN ('disabled', 'gated')
), again AS (
    INSERT INTO jobq.ready (
        id, position, since, run_at, started_at, deadline, lease, worker, size, rank, priority, attempt, flags, keyed,
        queue, kind, percent, message, details, extra
    )
    SELECT t.id, nextval('jobq.position'), t.now, t.run_at, t.started_at, t.deadline, t.lease, t.worker, t.size,
        t.priority, t.priority, t.attempts, t.flags, t.keyed, t.queue, t.kind, t.percent, t.message, t.details, t.extra
    FROM (SELECT * FROM taken WHERE state = 'pending' ORDER BY lease) t
), freed AS (
    DELETE FROM jobq.unique_key
    WHERE job = ANY(ARRAY(SELECT id FROM taken WHERE keyed AND state IN ('failed', 'aborted')))
        AND until IS NULL
), counted AS (
    INSERT INTO jobq.tally (at, finished, jobs, waited, ran, queue, kind, state, buckets)
    SELECT max(t.now), count(*), count(*),
        greatest(date_part('epoch', sum(t.started_at - t.pending_since) FILTER (WHERE t.ran)), 0),
        greatest(date_part('epoch', sum(t.now - t.started_at) FILTER (WHERE t.ran)), 0), t.queue, t.kind, t.state,
        array_agg((128 * jobq.bucket(t.started_at - t.pending_since) + jobq.bucket(t.now - t.started_at))::smallint)
            FILTER (WHERE t.ran)
    FROM taken t
    WHERE t.state IN ('failed', 'aborted')
    GROUP BY t.queue, t.kind, t.state
)
SELECT (SELECT name FROM lost), (SELECT silent_for FROM lost), (SELECT bool_or(failed IS NOT NULL) FROM followed),
    NULL::uuid, NULL::text, NULL::text, NULL::smallint, NULL::text
UNION ALL
SELECT NULL, NULL, NULL, t.id, t.kind, t.queue, t.attempts, CASE t.state WHEN 'gated' THEN 'blocked' ELSE t.state END
FROM (SELECT * FROM taken ORDER BY lease) t
