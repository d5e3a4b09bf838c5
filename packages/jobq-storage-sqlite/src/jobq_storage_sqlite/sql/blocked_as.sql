SELECT life.n
FROM jobq_life AS life CROSS JOIN jobq_job AS job ON job.n = life.n
WHERE life.state = 1 AND life.queue = ? AND life.reason = ? AND job.kind IN (SELECT value FROM json_each(?))
ORDER BY life.n
