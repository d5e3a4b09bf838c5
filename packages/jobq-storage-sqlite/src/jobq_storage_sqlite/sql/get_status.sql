SELECT job.id, job.kind, life.queue, life.state, life.attempt, life.percent, life.message, life.details, life.worker,
    life.result, attempt.type, attempt.message, attempt.traceback
FROM jobq_job AS job
JOIN jobq_life AS life ON life.n = job.n
LEFT JOIN jobq_attempt AS attempt ON attempt.n = life.n AND attempt.lease = life.error_lease
WHERE job.id = ?
