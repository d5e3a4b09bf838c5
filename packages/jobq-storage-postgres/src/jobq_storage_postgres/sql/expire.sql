-- Fail the jobs that wait, or are PENDING, past their deadline; answers how many, and whether one has a follow-up. $1
-- limit, $2 the deadline to begin at; $3 type of the error, $4 its message.
WITH moment AS MATERIALIZED (
    SELECT jobq.clock() AS now
), waiting AS MATERIALIZED (
    SELECT w.*
    FROM jobq.waiting w
    WHERE w.deadline IS NOT NULL AND w.state <> 'disabled' AND w.deadline >= $2::timestamptz
        AND w.deadline <= (SELECT now FROM moment)
    ORDER BY w.deadline
    LIMIT $1::bigint
    FOR UPDATE SKIP LOCKED
), pending AS MATERIALIZED (
    SELECT r.*
    FROM jobq.ready r
    WHERE r.deadline IS NOT NULL AND r.deadline >= $2 AND r.deadline <= (SELECT now FROM moment)
    ORDER BY r.deadline
    LIMIT $1::bigint - (SELECT count(*) FROM waiting)
    FOR UPDATE SKIP LOCKED
), over AS MATERIALIZED (
    SELECT id, queue, kind, attempt, flags, keyed, run_at, started_at, lease, worker, settled, percent, message, details,
        extra
    FROM waiting
    UNION ALL
    SELECT id, queue, kind, attempt, flags, keyed, run_at, started_at, lease, worker, settled, percent, message, details,
        extra
    FROM pending
), from_waiting AS (
    DELETE FROM jobq.waiting WHERE id = ANY(ARRAY(SELECT id FROM waiting))
), from_ready AS (
    DELETE FROM jobq.ready WHERE id = ANY(ARRAY(SELECT id FROM pending))
), finished AS (
    INSERT INTO jobq.outcome (
        id, finished_at, started_at, run_at, lease, worker, attempt, flags, state, queue, kind, settled, percent,
        message, details, extra, error_type, error_message
    )
    SELECT o.id, moment.now, o.started_at, o.run_at, o.lease, o.worker, o.attempt, o.flags, 'failed', o.queue,
        o.kind, o.settled, o.percent, o.message, o.details, o.extra, $3::text, $4::text
    FROM over o, moment
), followed AS (
    INSERT INTO jobq.ended (id, at, queue, state, failed)
    SELECT o.id, moment.now, o.queue, 'failed', CASE WHEN o.flags & 4 <> 0 THEN
        jobq.failed_job(o.id, o.queue, $3, $4, NULL)
    END
    FROM over o, moment
    WHERE o.flags & 6 <> 0
    RETURNING failed
), freed AS (
    DELETE FROM jobq.unique_key WHERE job = ANY(ARRAY(SELECT id FROM over WHERE keyed)) AND until IS NULL
), counted AS (
    INSERT INTO jobq.tally (at, finished, jobs, queue, kind, state)
    SELECT max(moment.now), count(*), count(*), o.queue, o.kind, 'failed' FROM over o, moment GROUP BY o.queue, o.kind
)
SELECT count(*), (SELECT bool_or(failed IS NOT NULL) FROM followed) FROM over
