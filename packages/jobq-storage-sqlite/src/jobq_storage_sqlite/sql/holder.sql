SELECT job.id
FROM jobq_life AS life JOIN jobq_job AS job ON job.n = life.n
WHERE life.queue = ? AND life.unique_key = ? AND life.unique_key IS NOT NULL AND life.state < 5
