SELECT life.lease, job.id, life.queue, job.kind, job.arguments, life.attempt, job.max_attempts, life.urgency,
    job.timeout, job.deadline, job.backoff, job.run_id, job.tags
FROM jobq_life AS life CROSS JOIN jobq_job AS job ON job.n = life.n
WHERE life.state = 4 AND life.worker = ?
ORDER BY life.lease
