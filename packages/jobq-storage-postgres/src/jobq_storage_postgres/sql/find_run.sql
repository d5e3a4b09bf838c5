-- Find the jobs of a run, newest first. $1 id to begin below, $2 limit, $3 queue, $4 kinds, $5 states, $6 tags, $7 run
-- id; all but $2 and $7 may be NULL.
SELECT {summary}
FROM jobq.job j
CROSS JOIN LATERAL (SELECT s.* FROM jobq.job_state s WHERE s.id = j.id LIMIT 1) s
WHERE j.run_id = $7::text
    AND j.id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    AND ($3::text IS NULL OR s.queue = $3)
    AND ($4::text[] IS NULL OR j.kind = ANY($4))
    AND ($5::text[] IS NULL OR s.state = ANY($5))
    AND ($6::text[] IS NULL OR j.tags @> $6)
ORDER BY j.id DESC
LIMIT $2::bigint
