SELECT life.n, life.queue, life.request, life.attempt, life.worker, life.started_at, life.run_at, life.position,
    life.error_lease
FROM jobq_job AS job JOIN jobq_life AS life ON life.n = job.n
WHERE job.id = ? AND life.lease = ? AND life.state = 4
