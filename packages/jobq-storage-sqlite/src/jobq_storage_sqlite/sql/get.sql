SELECT job.n, job.id, job.kind, life.queue, life.state, life.urgency, job.arguments, job.created_at, life.run_at,
    job.deadline, job.timeout, life.attempt, job.max_attempts, job.run_id, job.tags, life.unique_key, life.reason,
    life.request, life.worker, life.lease, life.started_at, life.finished_at, life.percent, life.message, life.details,
    life.result, life.error_lease
FROM jobq_job AS job JOIN jobq_life AS life ON life.n = job.n
WHERE job.id = ?
