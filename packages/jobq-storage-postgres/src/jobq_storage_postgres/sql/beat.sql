-- Renew the registration of a worker. $1 id, $2 statistics.
UPDATE jobq.worker w
SET beat_at = m.now, expires_at = m.now + make_interval(secs => w.lost_after), stats = $2::json
FROM (SELECT jobq.clock() AS now) m
WHERE w.id = $1::uuid
RETURNING w.id
