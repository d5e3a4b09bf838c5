-- List unfinished jobs of a run, by id. $1 run id, $2 id to begin behind, or NULL; $3 limit.
SELECT j.id
FROM jobq.job j
WHERE j.run_id = $1::text AND j.id > coalesce($2::uuid, '00000000-0000-0000-0000-000000000000')
    AND NOT EXISTS (SELECT FROM jobq.outcome o WHERE o.id = j.id)
ORDER BY j.id
LIMIT $3::bigint
