-- Store a bulk operation, unless it is there. $1 id, $2 action, $3 value, $4 filter, $5 first id that it is not for, $6
-- actor, $7 number of jobs that match, $8 state; $9 cursor; numbers of jobs: $10 done, $11 changed, $12 refused.
INSERT INTO jobq.operation (
    id, created_at, action, value, filter, before, actor, matched, state, cursor, done, changed, refused
)
SELECT $1::uuid, jobq.clock(), $2::text, $3::text, $4::json, $5::uuid, $6::text, $7::bigint, $8::text, $9::uuid,
    $10::bigint, $11::bigint, $12::bigint
ON CONFLICT (id) DO NOTHING
