-- Who leads the maintenance, and for how many seconds yet. $1 worker.
SELECT coalesce(worker = $1::uuid, false), coalesce(extract(epoch FROM expires_at - jobq.clock()), 0)::float8
FROM jobq.maintenance
