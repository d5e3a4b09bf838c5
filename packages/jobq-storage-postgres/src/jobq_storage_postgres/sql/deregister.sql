-- Remove a worker, and the requests to it. $1 id.
WITH gone AS (
    DELETE FROM jobq.worker WHERE id = $1::uuid
)
DELETE FROM jobq.worker_request WHERE worker = $1
