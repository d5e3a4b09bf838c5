-- Delete jobs in all states; answers as `abort` does. $1 job ids (sorted).
-- Rows of `job`, `attempt` and `job_log` are deleted only with the row that gives the state: a transaction that moves the job
-- meanwhile keeps all of it.
WITH from_running AS (
    DELETE FROM jobq.running WHERE id = ANY($1::uuid[]) RETURNING id, 'processing' AS state, queue, flags
), from_waiting AS (
    DELETE FROM jobq.waiting WHERE id = ANY($1::uuid[]) RETURNING id, state, queue, flags
), from_ready AS (
    DELETE FROM jobq.ready WHERE id = ANY($1::uuid[]) RETURNING id, 'pending' AS state, queue, flags
), from_outcome AS (
    DELETE FROM jobq.outcome WHERE id = ANY($1::uuid[]) RETURNING id, state, queue, 0::smallint AS flags, kind
), gone AS (
    SELECT * FROM from_waiting
    UNION ALL SELECT * FROM from_ready
    UNION ALL SELECT * FROM from_running
    UNION ALL SELECT id, state, queue, flags FROM from_outcome
), jobs AS (
    DELETE FROM jobq.job WHERE id = ANY(ARRAY(SELECT id FROM gone))
), tags AS (
    DELETE FROM jobq.job_tag WHERE id = ANY(ARRAY(SELECT id FROM gone))
), tries AS (
    DELETE FROM jobq.attempt WHERE job = ANY(ARRAY(SELECT id FROM gone))
), logs AS (
    DELETE FROM jobq.job_log WHERE job = ANY(ARRAY(SELECT id FROM gone))
), freed AS (
    DELETE FROM jobq.unique_key WHERE job = ANY(ARRAY(SELECT id FROM gone))
), followed AS (
    -- The end of a finished job is there already.
    INSERT INTO jobq.ended (id, at, queue) SELECT id, jobq.clock(), queue FROM gone WHERE flags & 2 <> 0
), counted AS (
    INSERT INTO jobq.tally (finished, queue, kind, state)
    SELECT -count(*), queue, kind, state FROM from_outcome GROUP BY queue, kind, state
)
SELECT id, state, NULL, false, queue FROM gone
UNION ALL
SELECT g.id, NULL, NULL, false, NULL
FROM unnest($1::uuid[]) AS g(id)
WHERE NOT EXISTS (SELECT FROM jobq.job j WHERE j.id = g.id)
