-- The logs of jobs.

-- name: write_logs
-- Parameters: the lease, the part, the attempt, now, the lines, the job's id.
INSERT INTO jobq_log (n, lease, part, attempt, at, lines)
SELECT job.n, ?, ?, ?, ?, ? FROM jobq_job AS job WHERE job.id = ?
ON CONFLICT (n, lease, part) DO NOTHING

-- name: read_logs
-- The last parts of a job between two places, newest first.
SELECT log.lease, log.part, log.attempt, log.at, log.lines
FROM jobq_job AS job CROSS JOIN jobq_log AS log ON log.n = job.n
WHERE job.id = :id AND (log.lease, log.part) > (:after_lease, :after_part)
    AND (log.lease, log.part) < (:before_lease, :before_part) AND (:attempt IS NULL OR log.attempt = :attempt)
ORDER BY log.lease DESC, log.part DESC
LIMIT :limit
