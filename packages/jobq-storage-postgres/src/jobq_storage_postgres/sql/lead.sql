-- Take or renew the lease on maintenance. $1 worker, $2 seconds.
UPDATE jobq.maintenance
SET worker = $1::uuid, expires_at = jobq.clock() + make_interval(secs => $2::float8)
WHERE worker IS NULL OR worker = $1::uuid OR expires_at <= jobq.clock()
