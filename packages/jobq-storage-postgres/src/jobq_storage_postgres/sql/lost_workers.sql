-- List the workers to rescue from, expired or not registered, and the jobs that each holds. Answers first a row without
-- a worker: in how many seconds the next registered worker could expire (NULL: there is no other one).
WITH moment AS MATERIALIZED (
    SELECT jobq.clock() AS now
), registered AS MATERIALIZED (
    SELECT w.id, w.expires_at, w.expires_at > moment.now AS alive FROM moment, jobq.worker w
), lost AS (
    SELECT r.worker, array_agg(r.id ORDER BY r.id) AS jobs
    FROM jobq.running r
    WHERE NOT r.worker = ANY(ARRAY(SELECT id FROM registered WHERE alive))
    GROUP BY r.worker
)
SELECT NULL::uuid, NULL::uuid[], (
    SELECT extract(epoch FROM min(w.expires_at) - moment.now)::float8 FROM registered w WHERE w.alive
)
FROM moment
UNION ALL
SELECT worker, jobs, NULL FROM lost
UNION ALL
SELECT w.id, '{}', NULL FROM registered w WHERE NOT w.alive AND NOT EXISTS (SELECT FROM lost l WHERE l.worker = w.id)
