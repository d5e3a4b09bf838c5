-- Disable jobs; answers as `abort` does. A running job that was asked to abort stays so. $1 job ids (sorted).
WITH asked AS (
    UPDATE jobq.running SET request = 'disable'
    WHERE id = ANY($1::uuid[]) AND request IS DISTINCT FROM 'abort'
    RETURNING id, queue
), kept_back AS MATERIALIZED (
    SELECT id, state FROM jobq.waiting WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE
), changed AS (
    UPDATE jobq.waiting w SET state = 'disabled', reason = 'disabled', since = jobq.clock()
    FROM kept_back k
    WHERE w.id = k.id AND k.state <> 'disabled'
), from_ready AS (
    DELETE FROM jobq.ready WHERE id = ANY($1::uuid[]) RETURNING *
), moved AS (
    INSERT INTO jobq.waiting (
        id, position, since, run_at, started_at, deadline, lease, worker, size, priority, attempt, flags, keyed, state,
        queue, kind, reason, settled, percent, message, details, extra
    )
    SELECT id, nextval('jobq.position'), jobq.clock(), run_at, started_at, deadline, lease, worker, size, priority,
        attempt, flags, keyed, 'disabled', queue, kind, 'disabled', settled, percent, message, details, extra
    FROM from_ready
)
SELECT id, state, 'disabled', false, NULL FROM kept_back
UNION ALL
SELECT id, 'pending', 'disabled', false, NULL FROM from_ready
UNION ALL
SELECT id, 'processing', 'processing', true, queue FROM asked
UNION ALL
SELECT id, 'processing', 'processing', false, queue FROM jobq.running WHERE id = ANY($1::uuid[]) AND request = 'abort'
UNION ALL
SELECT id, state, state, false, queue FROM jobq.outcome WHERE id = ANY($1::uuid[])
UNION ALL
SELECT g.id, NULL, NULL, false, NULL
FROM unnest($1::uuid[]) AS g(id)
WHERE NOT EXISTS (SELECT FROM jobq.job j WHERE j.id = g.id)
