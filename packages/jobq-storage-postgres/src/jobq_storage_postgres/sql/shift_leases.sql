-- Renew what workers registered by a clock that was set forward since. $1 seconds of the step, $2 the time that the old
-- clock would show now.
UPDATE jobq.worker
SET beat_at = beat_at + make_interval(secs => $1::float8), expires_at = expires_at + make_interval(secs => $1::float8)
WHERE beat_at <= $2::timestamptz
RETURNING id
