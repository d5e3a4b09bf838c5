-- Read the newest bulk operations, newest first. $1 limit.
SELECT {operation}
FROM jobq.operation
ORDER BY id DESC
LIMIT $1::bigint
