-- Enable disabled jobs; answers as `abort` does. $1 job ids (sorted), $2 their order in the batch.
WITH moment AS MATERIALIZED (
    SELECT jobq.clock() AS now
), given AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::integer[]) AS g(id, ord)
), kept_back AS MATERIALIZED (
    SELECT w.id, w.run_at > moment.now AS waits, w.flags & 1 <> 0 AS gated
    FROM moment, jobq.waiting w
    WHERE w.id = ANY($1::uuid[]) AND w.state = 'disabled'
    ORDER BY w.id
    FOR UPDATE OF w
), later AS (
    UPDATE jobq.waiting w
    SET state = 'scheduled', since = (SELECT now FROM moment), reason = 'delayed', error_type = NULL,
        error_message = NULL, error_traceback = NULL
    WHERE w.id = ANY(ARRAY(SELECT id FROM kept_back WHERE waits))
    RETURNING w.id, w.queue
), gated AS (
    UPDATE jobq.waiting w
    SET state = 'blocked', since = (SELECT now FROM moment), run_at = NULL, reason = 'gated', error_type = NULL,
        error_message = NULL, error_traceback = NULL
    WHERE w.id = ANY(ARRAY(SELECT id FROM kept_back WHERE gated AND waits IS NOT TRUE))
    RETURNING w.id, w.queue
), gone AS (
    DELETE FROM jobq.waiting w
    WHERE w.id = ANY(ARRAY(SELECT id FROM kept_back WHERE NOT gated AND waits IS NOT TRUE))
    RETURNING w.*
), freed AS (
    INSERT INTO jobq.ready (
        id, position, since, run_at, started_at, deadline, lease, worker, size, rank, priority, attempt, flags, keyed,
        queue, kind, settled, percent, message, details, extra
    )
    SELECT f.id, nextval('jobq.position'), moment.now, f.run_at, f.started_at, f.deadline, f.lease, f.worker,
        f.size, f.priority, f.priority, f.attempt, f.flags, f.keyed, f.queue, f.kind, f.settled,
        f.percent, f.message, f.details, f.extra
    FROM moment, (SELECT gone.* FROM gone JOIN given g ON g.id = gone.id ORDER BY g.ord) f
), withdrawn AS (
    UPDATE jobq.running SET request = NULL WHERE id = ANY($1::uuid[]) AND request = 'disable' RETURNING id, queue
)
SELECT id, 'disabled', 'scheduled', false, queue FROM later
UNION ALL
SELECT id, 'disabled', 'blocked', false, queue FROM gated
UNION ALL
SELECT id, 'disabled', 'pending', false, queue FROM gone
UNION ALL
SELECT id, 'processing', 'processing', true, queue FROM withdrawn
UNION ALL
SELECT s.id, s.state, s.state, false, s.queue
FROM given g
CROSS JOIN LATERAL (SELECT s.* FROM jobq.job_state s WHERE s.id = g.id LIMIT 1) s
WHERE s.state <> 'disabled' AND s.request IS DISTINCT FROM 'disable'
UNION ALL
SELECT g.id, NULL, NULL, false, NULL
FROM given g
WHERE NOT EXISTS (SELECT FROM jobq.job j WHERE j.id = g.id)
