SELECT life.n, life.queue, life.state, life.request, life.run_at, life.unique_key
FROM jobq_job AS job JOIN jobq_life AS life ON life.n = job.n
WHERE job.id = ?
