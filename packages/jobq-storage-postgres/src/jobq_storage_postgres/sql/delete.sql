-- Delete jobs in all states; answers as `abort` does. $1 job ids (sorted).
-- Rows of `job` and `attempt` are deleted only with the row that gives the state: a transaction that moves the job
-- meanwhile keeps all of it.
WITH from_running AS (
    DELETE FROM jobq.running WHERE id = ANY($1::uuid[]) RETURNING id, 'processing' AS state, queue, flags
), from_waiting AS (
    DELETE FROM jobq.waiting WHERE id = ANY($1::uuid[]) RETURNING id, state, queue, flags
), from_ready AS (
    DELETE FROM jobq.ready WHERE id = ANY($1::uuid[]) RETURNING id, 'pending' AS state, queue, flags
), from_outcome AS (
    DELETE FROM jobq.outcome WHERE id = ANY($1::uuid[]) RETURNING id, state, queue, 0::smallint AS flags
), gone AS (
    SELECT * FROM from_waiting
    UNION ALL SELECT * FROM from_ready
    UNION ALL SELECT * FROM from_running
    UNION ALL SELECT * FROM from_outcome
), jobs AS (
    DELETE FROM jobq.job WHERE id = ANY(ARRAY(SELECT id FROM gone)) RETURNING id, kind
), tries AS (
    DELETE FROM jobq.attempt WHERE job = ANY(ARRAY(SELECT id FROM gone))
), freed AS (
    DELETE FROM jobq.unique_key WHERE job = ANY(ARRAY(SELECT id FROM gone))
), followed AS (
    -- The end of a finished job is there already.
    INSERT INTO jobq.ended (id, at, queue) SELECT id, jobq.clock(), queue FROM gone WHERE flags & 2 <> 0
), counted AS (
    INSERT INTO jobq.tally (jobs, queue, kind, state)
    SELECT -count(*), g.queue, coalesce(j.kind, ''), g.state
    FROM from_outcome g
    LEFT JOIN jobs j ON j.id = g.id
    GROUP BY g.queue, j.kind, g.state
)
SELECT id, state, NULL, false, queue FROM gone
UNION ALL
SELECT g.id, NULL, NULL, false, NULL
FROM unnest($1::uuid[]) AS g(id)
WHERE NOT EXISTS (SELECT FROM jobq.job j WHERE j.id = g.id)
