-- As find, for states that few jobs are in: by the indexes of the states, so that failures are found among millions of
-- jobs that completed.
SELECT job.id
FROM (
    SELECT n FROM jobq_life WHERE state < 2 AND state IN (SELECT value FROM json_each(:states))
    UNION ALL
    SELECT n FROM jobq_life WHERE state = 2 AND 2 IN (SELECT value FROM json_each(:states))
    UNION ALL
    SELECT n FROM jobq_life WHERE state = 3 AND 3 IN (SELECT value FROM json_each(:states))
    UNION ALL
    SELECT n FROM jobq_life WHERE state = 4 AND 4 IN (SELECT value FROM json_each(:states))
    UNION ALL
    SELECT n FROM jobq_life WHERE state > 4 AND state <> 5 AND state IN (SELECT value FROM json_each(:states))
) AS candidate
CROSS JOIN jobq_life AS life ON life.n = candidate.n
CROSS JOIN jobq_job AS job ON job.n = life.n
WHERE job.id < :before
    AND (:queue IS NULL OR life.queue = :queue)
    AND (:states IS NULL OR life.state IN (SELECT value FROM json_each(:states)))
    AND (:kinds IS NULL OR job.kind IN (SELECT value FROM json_each(:kinds)))
    AND (:tags IS NULL OR NOT EXISTS (
        SELECT 1 FROM json_each(:tags) AS wanted
        WHERE wanted.value NOT IN (SELECT value FROM json_each(coalesce(job.tags, '[]')))
    ))
    AND :run_id IS NULL
ORDER BY job.id DESC
LIMIT :limit
