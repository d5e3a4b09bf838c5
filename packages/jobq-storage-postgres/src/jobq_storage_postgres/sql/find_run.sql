-- Find the jobs of a run, newest first, as `find` does. $10 run id, $11 queue, $12 kinds, $13 states, $14 tags; all but
-- $10 may be NULL.
WITH {span}, found AS MATERIALIZED (
    SELECT j.id, s.worker, s.error_type, s.error_message
    FROM jobq.job j
    CROSS JOIN LATERAL (SELECT s.* FROM jobq.job_state s WHERE s.id = j.id LIMIT 1) s
    WHERE j.run_id = $10::text AND j.id < (SELECT high FROM span) AND j.id >= (SELECT low FROM span)
        AND ($11::text IS NULL OR s.queue = $11)
        AND ($12::text[] IS NULL OR j.kind = ANY($12))
        AND ($13::text[] IS NULL OR s.state = ANY($13))
        AND ($14::text[] IS NULL OR j.tags @> $14)
    ORDER BY j.id DESC
    LIMIT $2::bigint
), {page}
