-- Store the progress of a bulk operation, if it is running and nobody else did so since; answers with its id then. $1
-- id, $2 cursor that was seen, $3 new cursor; numbers of jobs: $4 done, $5 changed, $6 refused; $7 state, $8 error.
UPDATE jobq.operation
SET cursor = $3::uuid, done = $4::bigint, changed = $5::bigint, refused = $6::bigint, state = $7::text,
    error = $8::text, worked_at = jobq.clock(), finished_at = CASE WHEN $7 <> 'running' THEN jobq.clock() END
WHERE id = $1::uuid AND state = 'running' AND cursor IS NOT DISTINCT FROM $2::uuid
RETURNING id
