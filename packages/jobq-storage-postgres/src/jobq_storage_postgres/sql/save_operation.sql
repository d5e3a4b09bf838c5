-- Store the progress of a bulk operation, if it is not done and nobody else did so since; answers with its id then. One
-- that was cancelled meanwhile stays so. $1 id, $2 cursor that was seen, $3 new cursor; numbers of jobs: $4 done, $5
-- changed, $6 refused; $7 state, $8 error.
UPDATE jobq.operation
SET cursor = $3::uuid, done = $4::bigint, changed = $5::bigint, refused = $6::bigint, error = coalesce($8::text, error),
    state = CASE WHEN state = 'running' THEN $7::text ELSE state END, worked_at = jobq.clock(),
    finished_at = CASE WHEN state <> 'running' THEN finished_at WHEN $7 <> 'running' THEN jobq.clock() END
WHERE id = $1::uuid AND state <> 'done' AND cursor IS NOT DISTINCT FROM $2::uuid
RETURNING id
