-- Read requests to workers. $1 ids.
SELECT {request}
FROM jobq.worker_request
WHERE id = ANY($1::uuid[])
