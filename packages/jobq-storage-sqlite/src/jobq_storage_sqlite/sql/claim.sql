-- CROSS JOIN keeps the order of the tables: the head of the line first, then what was asked.
SELECT life.n, job.id, life.queue, job.kind, job.arguments, life.attempt + 1, job.max_attempts, life.urgency,
    job.timeout, job.deadline, job.backoff, job.run_id, job.tags
FROM jobq_life AS life CROSS JOIN jobq_job AS job ON job.n = life.n
WHERE life.state = 3 AND life.queue = ?
ORDER BY life.urgency, life.position
LIMIT ?
