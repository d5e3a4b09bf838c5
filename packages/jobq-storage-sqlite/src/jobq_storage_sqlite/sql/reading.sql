-- Reading jobs, queues and workers. Each statement is a read of its own.

-- name: summary
-- The columns of a JobSummary but its error.
job.id, job.kind, life.queue, life.state, job.priority, job.created_at, life.run_at, job.deadline, job.timeout,
    life.attempt, job.max_attempts, job.run_id, job.tags, life.unique_key, life.reason, life.request, life.worker,
    life.lease, life.started_at, life.finished_at,
    CASE WHEN life.finished_at IS NOT NULL THEN life.finished_at WHEN life.state = 'processing' THEN life.started_at
        ELSE life.since END,
    life.flags, life.percent, life.message

-- name: record
-- The columns of a JobRecord.
{summary}, life.details, job.arguments, life.result, job.meta, life.error_lease, (
        SELECT json_group_array(
            json_array(number, lease, hex(worker), started_at, finished_at, type, message, traceback)
        )
        FROM jobq_attempt AS attempt
        WHERE attempt.n = life.n
    )

-- name: get
WITH RECURSIVE {wanted}
SELECT {record}
FROM wanted CROSS JOIN jobq_job AS job ON job.id = wanted.id CROSS JOIN jobq_life AS life ON life.n = job.n

-- name: status
-- The columns of a JobStatus but its error.
job.id, job.kind, life.queue, life.state, life.attempt, life.percent, life.message, life.details, life.worker,
    life.result

-- name: get_status
WITH RECURSIVE {wanted}
SELECT {status}, attempt.type, attempt.message, attempt.traceback
FROM wanted
CROSS JOIN jobq_job AS job ON job.id = wanted.id
CROSS JOIN jobq_life AS life ON life.n = job.n
LEFT JOIN jobq_attempt AS attempt ON attempt.n = life.n AND attempt.lease = life.error_lease

-- name: output_for
SELECT {status}, NULL, NULL, NULL
FROM jobq_job AS job CROSS JOIN jobq_life AS life ON life.n = job.n
WHERE job.fingerprint = :fingerprint AND job.kind = :kind AND life.queue = :queue AND life.state = 'completed'
ORDER BY job.id DESC
LIMIT 1

-- name: check_leases
-- :ids: the jobs; :leases: their leases, an array as JSON. Returns the positions of the leases that still stand.
WITH RECURSIVE {wanted}
SELECT wanted.i, life.request
FROM wanted
CROSS JOIN jobq_job AS job ON job.id = wanted.id
CROSS JOIN jobq_life AS life ON life.n = job.n
WHERE life.lease = json_extract(:leases, '$[' || wanted.i || ']') AND life.worker = :worker
    AND life.state = 'processing'

-- name: queues
SELECT queue, paused_at, paused_by, owner, completed, failed, aborted FROM jobq_queue
WHERE paused_at IS NOT NULL OR owner IS NOT NULL
ORDER BY queue
