SELECT life.request
FROM jobq_job AS job JOIN jobq_life AS life ON life.n = job.n
WHERE job.id = ? AND life.lease = ? AND life.worker = ? AND life.state = 4
