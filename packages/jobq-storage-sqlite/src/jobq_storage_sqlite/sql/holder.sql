SELECT job.id
FROM jobq_life AS life JOIN jobq_job AS job ON job.n = life.n
WHERE life.queue = ?1 AND life.unique_key = ?2 AND life.unique_key IS NOT NULL AND life.state < 5
