-- Find the jobs with all of these tags, newest first, as `find` does: walks down the jobs with the first one. $11 tags,
-- $12 queue, $13 kinds, $14 states, $15 how many jobs with that tag to read; $12 to $14 may be NULL.
WITH {span}, given AS MATERIALIZED (
    -- Whether the state of a job has to be read to know if the job matches.
    SELECT $12::text IS NOT NULL OR $14::text[] IS NOT NULL OR coalesce($6::uuid::text, $7::text, $8::text) IS NOT NULL
        AS by_state
), reach AS MATERIALIZED (
    SELECT t.id AS low FROM jobq.job_tag t
    WHERE t.tag = ($11::text[])[1] AND t.id < (SELECT high FROM span) AND t.id >= (SELECT low FROM span)
    ORDER BY t.id DESC
    OFFSET $15::bigint - 1
    LIMIT 1
), found AS MATERIALIZED (
    SELECT j.id, s.worker, s.error_type, s.error_message
    FROM jobq.job_tag t
    CROSS JOIN LATERAL (SELECT j.* FROM jobq.job j WHERE j.id = t.id LIMIT 1) j
    LEFT JOIN LATERAL (
        SELECT s.* FROM jobq.job_state s WHERE s.id = j.id AND (SELECT by_state FROM given) LIMIT 1
    ) s ON true
    WHERE t.tag = ($11::text[])[1] AND t.id < (SELECT high FROM span)
        AND t.id >= coalesce((SELECT low FROM reach), (SELECT low FROM span))
        AND (s.id IS NOT NULL OR NOT (SELECT by_state FROM given))
        AND ($12 IS NULL OR s.queue = $12)
        AND ($13::text[] IS NULL OR j.kind = ANY($13))
        AND ($14 IS NULL OR s.state = ANY($14))
        AND j.tags @> $11
    ORDER BY t.id DESC
    LIMIT $2::bigint
), {page}
