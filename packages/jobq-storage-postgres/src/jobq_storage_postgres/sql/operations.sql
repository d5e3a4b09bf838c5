-- Read bulk operations. $1 ids.
SELECT {operation}
FROM jobq.operation
WHERE id = ANY($1::uuid[])
