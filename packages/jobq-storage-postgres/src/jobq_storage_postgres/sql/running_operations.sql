-- Read the oldest bulk operations that are running, oldest first. $1 limit.
SELECT {operation}
FROM jobq.operation
WHERE state = 'running'
ORDER BY id
LIMIT $1::bigint
