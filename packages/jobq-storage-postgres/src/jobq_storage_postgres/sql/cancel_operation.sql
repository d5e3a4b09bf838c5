-- End a bulk operation that is running; answers with its id then. $1 id.
UPDATE jobq.operation SET state = 'cancelled', finished_at = jobq.clock()
WHERE id = $1::uuid AND state = 'running'
RETURNING id
