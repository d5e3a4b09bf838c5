-- Find the jobs with all of these tags, newest first: walks down the jobs with the first one. $1 id to begin below, $2
-- limit, $3 queue, $4 kinds, $5 states, $6 tags; all but $2 and $6 may be NULL.
SELECT {summary}
FROM jobq.job_tag t
CROSS JOIN LATERAL (SELECT j.* FROM jobq.job j WHERE j.id = t.id LIMIT 1) j
CROSS JOIN LATERAL (SELECT s.* FROM jobq.job_state s WHERE s.id = j.id LIMIT 1) s
WHERE t.tag = ($6::text[])[1]
    AND t.id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    AND ($3::text IS NULL OR s.queue = $3)
    AND ($4::text[] IS NULL OR j.kind = ANY($4))
    AND ($5::text[] IS NULL OR s.state = ANY($5))
    AND j.tags @> $6
ORDER BY t.id DESC
LIMIT $2::bigint
