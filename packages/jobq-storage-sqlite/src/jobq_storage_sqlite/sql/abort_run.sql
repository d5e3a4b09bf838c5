SELECT job.id
FROM jobq_job AS job CROSS JOIN jobq_life AS life ON life.n = job.n
WHERE job.run_id = ? AND life.state < 5
ORDER BY job.id
