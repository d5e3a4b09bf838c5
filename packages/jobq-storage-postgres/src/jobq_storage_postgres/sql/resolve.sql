-- Take ends of followed jobs, oldest first. $1 limit.
WITH taken AS (
    DELETE FROM jobq.ended
    WHERE ctid = ANY(ARRAY(
        SELECT e.ctid FROM jobq.ended e ORDER BY e.at LIMIT $1::bigint FOR UPDATE SKIP LOCKED
    ))
    RETURNING id, queue, state, at, failed
)
SELECT id, queue, state, at, failed FROM taken ORDER BY at
