-- As find, within one run.
SELECT job.id
FROM jobq_job AS job CROSS JOIN jobq_life AS life ON life.n = job.n
WHERE job.id < ?1
    AND (?2 IS NULL OR life.queue = ?2)
    AND (?3 IS NULL OR life.state IN (SELECT value FROM json_each(?3)))
    AND (?4 IS NULL OR job.kind IN (SELECT value FROM json_each(?4)))
    AND (?5 IS NULL OR NOT EXISTS (
        SELECT 1 FROM json_each(?5) AS wanted
        WHERE wanted.value NOT IN (SELECT value FROM json_each(coalesce(job.tags, '[]')))
    ))
    AND job.run_id = ?6
ORDER BY job.id DESC
LIMIT ?7
