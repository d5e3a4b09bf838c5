-- Read the newest completed job with these arguments, as `get_status` does. $1 queue, $2 kind, $3 fingerprint.
SELECT j.id, j.kind, o.queue, o.state, o.attempt, o.worker, o.percent, o.message, o.details, o.result, o.error_type,
    o.error_message, o.error_traceback
FROM jobq.job j
CROSS JOIN LATERAL (SELECT o.* FROM jobq.outcome o WHERE o.id = j.id AND o.state = 'completed' LIMIT 1) o
WHERE j.fingerprint = $3::bytea AND o.queue = $1::text AND j.kind = $2::text
ORDER BY j.id DESC
LIMIT 1
