-- Find the jobs of a run, newest first, as `find` does. $11 run id, $12 queue, $13 kinds, $14 states, $15 tags, $16
-- how many jobs of the run to read; $12 to $15 may be NULL.
WITH {span}, given AS MATERIALIZED (
    -- Whether the state of a job has to be read to know if the job matches.
    SELECT $12::text IS NOT NULL OR $14::text[] IS NOT NULL OR coalesce($6::uuid::text, $7::text, $8::text) IS NOT NULL
        AS by_state
), reach AS MATERIALIZED (
    SELECT t.id AS low FROM jobq.job t
    WHERE t.run_id = $11::text AND t.id < (SELECT high FROM span) AND t.id >= (SELECT low FROM span)
    ORDER BY t.id DESC
    OFFSET $16::bigint - 1
    LIMIT 1
), found AS MATERIALIZED (
    SELECT j.id, s.worker, s.error_type, s.error_message
    FROM jobq.job j
    LEFT JOIN LATERAL (
        SELECT s.* FROM jobq.job_state s WHERE s.id = j.id AND (SELECT by_state FROM given) LIMIT 1
    ) s ON true
    WHERE j.run_id = $11 AND j.id < (SELECT high FROM span)
        AND j.id >= coalesce((SELECT low FROM reach), (SELECT low FROM span))
        AND (s.id IS NOT NULL OR NOT (SELECT by_state FROM given))
        AND ($12 IS NULL OR s.queue = $12)
        AND ($13::text[] IS NULL OR j.kind = ANY($13))
        AND ($14 IS NULL OR s.state = ANY($14))
        AND ($15::text[] IS NULL OR j.tags @> $15)
    ORDER BY j.id DESC
    LIMIT $2::bigint
), {page}
