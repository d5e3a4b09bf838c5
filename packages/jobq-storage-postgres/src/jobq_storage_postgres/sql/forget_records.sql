-- Forget what operators did long ago: the audit and the operations that ended $1 seconds ago or earlier; and requests
-- that were made $2 seconds ago or earlier, or to workers that are gone. $3 limit of each.
WITH audit AS (
    DELETE FROM jobq.audit
    WHERE id = ANY(ARRAY(
        SELECT id FROM jobq.audit
        WHERE at <= jobq.clock() - make_interval(secs => $1::float8)
        ORDER BY at
        LIMIT $3::bigint
        FOR UPDATE SKIP LOCKED
    ))
), operations AS (
    DELETE FROM jobq.operation
    WHERE id = ANY(ARRAY(
        SELECT id FROM jobq.operation
        WHERE finished_at <= jobq.clock() - make_interval(secs => $1)
        LIMIT $3
        FOR UPDATE SKIP LOCKED
    ))
)
DELETE FROM jobq.worker_request
WHERE id = ANY(ARRAY(
    SELECT id FROM jobq.worker_request r
    WHERE r.asked_at <= jobq.clock() - make_interval(secs => $2::float8)
        OR NOT EXISTS (SELECT FROM jobq.worker w WHERE w.id = r.worker)
    LIMIT $3
    FOR UPDATE SKIP LOCKED
))
