-- Remove workers whose heartbeat expired, and rescue the jobs of removed and unregistered workers. Answers a row per
-- rescued job, and one per worker without jobs. $1 type of the error, $2 end of its message.
-- Jobs are rescued from workers whose rows this statement deleted: a worker that beats meanwhile keeps its row, and so
-- its jobs.
WITH moment AS MATERIALIZED (
    SELECT jobq.clock() AS now
), lost AS (
    DELETE FROM jobq.worker w WHERE w.expires_at <= (SELECT now FROM moment)
    RETURNING w.id, w.name, greatest(extract(epoch FROM (SELECT now FROM moment) - w.beat_at), 0)::float8 AS silent_for
), orphans AS MATERIALIZED (
    SELECT r.*
    FROM jobq.running r
    WHERE r.worker = ANY(ARRAY(SELECT id FROM lost))
        OR NOT EXISTS (SELECT FROM jobq.worker w WHERE w.id = r.worker)
    ORDER BY r.id
    FOR UPDATE OF r
), taken AS MATERIALIZED (
    -- attempts: without this one, if the run never started.
    SELECT o.*, l.name, l.silent_for, moment.now, run.real AS ran,
        greatest(o.attempt - (NOT run.real)::integer, 0) AS attempts,
        CASE WHEN run.real THEN $1::text END AS error_type,
        CASE WHEN run.real THEN
            'worker' || coalesce(' ''' || l.name || '''', '') || ' (' || o.worker || ')' || $2::text
        END AS error_message,
        CASE
            WHEN o.request = 'abort' THEN 'aborted'
            WHEN o.request = 'disable' THEN 'disabled'
            WHEN run.real AND o.attempt >= j.max_attempts THEN 'failed'
            ELSE 'pending'
        END AS state
    FROM moment, orphans o
    CROSS JOIN LATERAL (SELECT j.* FROM jobq.job j WHERE j.id = o.id LIMIT 1) j
    CROSS JOIN LATERAL (SELECT o.begun OR (o.attempt = 1 AND j.max_attempts > 1) AS real) run
    LEFT JOIN lost l ON l.id = o.worker
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
), kept_back AS (
    INSERT INTO jobq.waiting (
        id, position, since, run_at, started_at, deadline, lease, worker, size, priority, attempt, flags, keyed, state,
        queue, kind, reason, percent, message, details, extra
    )
    SELECT t.id, nextval('jobq.position'), t.now, t.run_at, t.started_at, t.deadline, t.lease, t.worker, t.size,
        t.priority, t.attempts, t.flags, t.keyed, 'disabled', t.queue, t.kind, 'disabled', t.percent, t.message,
        t.details, t.extra
    FROM taken t
    WHERE t.state = 'disabled'
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
), counted AS (
    INSERT INTO jobq.tally (at, jobs, waited, ran, queue, kind, state, buckets)
    SELECT max(now), count(*), sum(s.waited), sum(s.ran), queue, kind, state,
        array_agg((128 * jobq.bucket(s.waited) + jobq.bucket(s.ran))::smallint)
    FROM taken
    CROSS JOIN LATERAL (
        SELECT date_part('epoch', started_at - pending_since) AS waited, date_part('epoch', now - started_at) AS ran
    ) s
    WHERE state IN ('failed', 'aborted')
    GROUP BY queue, kind, state
)
SELECT coalesce(l.id, t.worker), coalesce(l.name, ''), coalesce(l.silent_for, 0), t.id, t.kind, t.queue, t.attempts,
    t.state
FROM lost l
FULL JOIN taken t ON t.worker = l.id
ORDER BY t.lease
