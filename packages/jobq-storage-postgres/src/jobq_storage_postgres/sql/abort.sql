-- Abort jobs in all states; a running job is asked to stop. Answers id, state before and after, whether it was asked,
-- and queue of each job that was found. A job that moved meanwhile has no row, and the caller looks for it again.
-- $1 job ids (sorted).
WITH moment AS MATERIALIZED (
    SELECT jobq.clock() AS now
), asked AS (
    UPDATE jobq.running SET request = 'abort' WHERE id = ANY($1::uuid[]) RETURNING id, queue
), from_waiting AS (
    DELETE FROM jobq.waiting WHERE id = ANY($1::uuid[]) RETURNING *
), from_ready AS (
    DELETE FROM jobq.ready WHERE id = ANY($1::uuid[]) RETURNING *
), stopped AS (
    SELECT id, state, queue, kind, attempt, flags, keyed, since, run_at, started_at, lease, worker, settled, percent,
        message, details, extra, error_type, error_message, error_traceback
    FROM from_waiting
    UNION ALL
    SELECT id, 'pending', queue, kind, attempt, flags, keyed, since, run_at, started_at, lease, worker, settled, percent,
        message, details, extra, NULL, NULL, NULL
    FROM from_ready
), finished AS (
    INSERT INTO jobq.outcome (
        id, finished_at, started_at, run_at, lease, worker, attempt, flags, state, queue, kind, settled, reason, percent,
        message, details, extra, error_type, error_message, error_traceback
    )
    SELECT s.id, moment.now, s.started_at, s.run_at, s.lease, s.worker, s.attempt, s.flags, 'aborted', s.queue,
        s.kind, s.settled, 'aborted', s.percent, s.message, s.details, s.extra, s.error_type, s.error_message, s.error_traceback
    FROM stopped s, moment
), freed AS (
    DELETE FROM jobq.unique_key WHERE job = ANY(ARRAY(SELECT id FROM stopped WHERE keyed)) AND until IS NULL
), followed AS (
    INSERT INTO jobq.ended (id, at, queue, state)
    SELECT s.id, moment.now, s.queue, 'aborted' FROM stopped s, moment WHERE s.flags & 2 <> 0
), counted AS (
    INSERT INTO jobq.tally (at, finished, jobs, queue, kind, state)
    SELECT max(moment.now), count(*), count(*), queue, kind, 'aborted' FROM stopped, moment GROUP BY queue, kind
)
SELECT id, state, 'aborted', false, queue FROM stopped
UNION ALL
SELECT id, 'processing', 'processing', true, queue FROM asked
UNION ALL
SELECT id, state, state, false, queue FROM jobq.outcome WHERE id = ANY($1::uuid[])
UNION ALL
SELECT g.id, NULL, NULL, false, NULL
FROM unnest($1::uuid[]) AS g(id)
WHERE NOT EXISTS (SELECT FROM jobq.job j WHERE j.id = g.id)
