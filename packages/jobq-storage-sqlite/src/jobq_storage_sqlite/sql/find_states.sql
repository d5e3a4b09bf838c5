-- As find, for states that few jobs are in: by the indexes of the states, so that failures are found among millions of
-- jobs that completed.
SELECT job.id
FROM (
    SELECT n FROM jobq_life WHERE state < 2 AND state IN (SELECT value FROM json_each(?3))
    UNION ALL
    SELECT n FROM jobq_life WHERE state = 2 AND 2 IN (SELECT value FROM json_each(?3))
    UNION ALL
    SELECT n FROM jobq_life WHERE state = 3 AND 3 IN (SELECT value FROM json_each(?3))
    UNION ALL
    SELECT n FROM jobq_life WHERE state = 4 AND 4 IN (SELECT value FROM json_each(?3))
    UNION ALL
    SELECT n FROM jobq_life WHERE state > 4 AND state <> 5 AND state IN (SELECT value FROM json_each(?3))
) AS candidate
CROSS JOIN jobq_life AS life ON life.n = candidate.n
CROSS JOIN jobq_job AS job ON job.n = life.n
WHERE job.id < ?1
    AND (?2 IS NULL OR life.queue = ?2)
    AND (?3 IS NULL OR life.state IN (SELECT value FROM json_each(?3)))
    AND (?4 IS NULL OR job.kind IN (SELECT value FROM json_each(?4)))
    AND (?5 IS NULL OR NOT EXISTS (
        SELECT 1 FROM json_each(?5) AS wanted
        WHERE wanted.value NOT IN (SELECT value FROM json_each(coalesce(job.tags, '[]')))
    ))
    AND ?6 IS NULL
ORDER BY job.id DESC
LIMIT ?7
