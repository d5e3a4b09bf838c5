-- Take or renew the lease on maintenance; answers whether this worker leads, in how many seconds the lease ends, and the
-- time.
-- $1 worker, $2 duration in seconds.
WITH took AS (
    UPDATE jobq.maintenance
    SET worker = $1::uuid, expires_at = jobq.clock() + make_interval(secs => $2::float8)
    WHERE worker IS NULL OR worker = $1::uuid OR expires_at <= jobq.clock()
    RETURNING true
)
SELECT true, $2::float8, jobq.clock() FROM took
UNION ALL
SELECT false, greatest(coalesce(extract(epoch FROM expires_at - jobq.clock()), 0), 0)::float8, jobq.clock()
FROM jobq.maintenance
WHERE NOT EXISTS (SELECT FROM took)
