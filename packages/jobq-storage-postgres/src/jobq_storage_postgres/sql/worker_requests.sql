-- Read the requests to a worker that it has not answered, oldest first. $1 worker.
SELECT {request}
FROM jobq.worker_request
WHERE worker = $1::uuid AND answer IS NULL
ORDER BY asked_at, id
