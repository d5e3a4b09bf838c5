SELECT life.n
FROM jobq_life AS life CROSS JOIN jobq_job AS job ON job.n = life.n
WHERE life.state = 1 AND life.queue = ?1 AND life.reason = ?2 AND job.kind IN (SELECT value FROM json_each(?3))
ORDER BY life.n
