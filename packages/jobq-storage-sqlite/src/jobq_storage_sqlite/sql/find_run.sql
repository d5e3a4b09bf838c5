-- As find, within one run.
SELECT job.id
FROM jobq_job AS job CROSS JOIN jobq_life AS life ON life.n = job.n
WHERE job.id < :before
    AND (:queue IS NULL OR life.queue = :queue)
    AND (:states IS NULL OR life.state IN (SELECT value FROM json_each(:states)))
    AND (:kinds IS NULL OR job.kind IN (SELECT value FROM json_each(:kinds)))
    AND (:tags IS NULL OR NOT EXISTS (
        SELECT 1 FROM json_each(:tags) AS wanted
        WHERE wanted.value NOT IN (SELECT value FROM json_each(coalesce(job.tags, '[]')))
    ))
    AND job.run_id = :run_id
ORDER BY job.id DESC
LIMIT :limit
