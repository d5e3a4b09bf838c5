SELECT life.n, life.queue, life.lease, life.worker, life.started_at, life.attempt, life.request, job.id, job.kind,
    job.max_attempts, life.begun_lease IS life.lease OR (life.attempt = 1 AND job.max_attempts > 1)
FROM jobq_life AS life CROSS JOIN jobq_job AS job ON job.n = life.n
WHERE life.state = 4 AND NOT EXISTS (SELECT 1 FROM jobq_worker AS worker WHERE worker.id = life.worker)
ORDER BY life.lease
