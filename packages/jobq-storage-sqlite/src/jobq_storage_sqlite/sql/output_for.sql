SELECT job.id, job.kind, life.queue, life.state, life.attempt, life.percent, life.message, life.details, life.worker,
    life.result, NULL, NULL, NULL
FROM jobq_job AS job CROSS JOIN jobq_life AS life ON life.n = job.n
WHERE job.fingerprint = ? AND job.kind = ? AND life.queue = ? AND life.state = 5
ORDER BY job.id DESC
LIMIT 1
