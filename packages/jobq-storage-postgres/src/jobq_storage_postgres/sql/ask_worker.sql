-- Store a request to a registered worker, unless it is there. Answers whether the worker is registered, and whether the
-- request is new. $1 id, $2 worker, $3 action, $4 job or NULL, $5 actor.
WITH asked AS (
    INSERT INTO jobq.worker_request (id, worker, asked_at, action, job, actor)
    SELECT $1::uuid, w.id, jobq.clock(), $3::text, $4::uuid, $5::text
    FROM jobq.worker w
    WHERE w.id = $2::uuid
    ON CONFLICT (id) DO NOTHING
    RETURNING id
)
SELECT EXISTS (SELECT FROM jobq.worker w WHERE w.id = $2), EXISTS (SELECT FROM asked)
