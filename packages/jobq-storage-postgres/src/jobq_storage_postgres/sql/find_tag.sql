-- Find the jobs with all of these tags, newest first, as `find` does: walks down the jobs with the first one. $10 tags,
-- $11 queue, $12 kinds, $13 states; all but $10 may be NULL.
WITH {span}, found AS MATERIALIZED (
    SELECT j.id, s.worker, s.error_type, s.error_message
    FROM jobq.job_tag t
    CROSS JOIN LATERAL (SELECT j.* FROM jobq.job j WHERE j.id = t.id LIMIT 1) j
    CROSS JOIN LATERAL (SELECT s.* FROM jobq.job_state s WHERE s.id = j.id LIMIT 1) s
    WHERE t.tag = ($10::text[])[1] AND t.id < (SELECT high FROM span) AND t.id >= (SELECT low FROM span)
        AND ($11::text IS NULL OR s.queue = $11)
        AND ($12::text[] IS NULL OR j.kind = ANY($12))
        AND ($13::text[] IS NULL OR s.state = ANY($13))
        AND j.tags @> $10
    ORDER BY t.id DESC
    LIMIT $2::bigint
), {page}
