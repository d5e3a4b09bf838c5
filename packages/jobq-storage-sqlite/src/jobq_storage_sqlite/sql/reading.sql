-- Reading jobs and counting them. Each statement is a read of its own.

-- name: record
-- The columns of a JobRecord.
job.id, job.kind, life.queue, life.state, life.urgency, job.arguments, job.created_at, life.run_at, job.deadline,
    job.timeout, life.attempt, job.max_attempts, job.run_id, job.tags, life.unique_key, life.reason, life.request,
    life.worker, life.lease, life.started_at, life.finished_at, life.percent, life.message, life.details, life.result,
    life.error_lease, (
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

-- name: filters
-- What a JobFilter asks for; NULL asks for everything.
job.id < :before
    AND (:queue IS NULL OR life.queue = :queue)
    AND (:states IS NULL OR life.state IN (SELECT value FROM json_each(:states)))
    AND (:kinds IS NULL OR job.kind IN (SELECT value FROM json_each(:kinds)))
    AND (:tags IS NULL OR NOT EXISTS (
        SELECT 1 FROM json_each(:tags) AS asked
        WHERE asked.value NOT IN (SELECT value FROM json_each(coalesce(job.tags, '[]')))
    ))

-- name: find
-- From the newest id down until enough jobs match.
SELECT {record}
FROM jobq_job AS job CROSS JOIN jobq_life AS life ON life.n = job.n
WHERE {filters}
ORDER BY job.id DESC
LIMIT :limit

-- name: find_run_id
-- As find, within one run.
SELECT {record}
FROM jobq_job AS job CROSS JOIN jobq_life AS life ON life.n = job.n
WHERE job.run_id = :run_id AND {filters}
ORDER BY job.id DESC
LIMIT :limit

-- name: in_states
-- The jobs in :states, which do not include 'completed', by the indexes of the states.
SELECT n FROM jobq_life
WHERE state IN ('scheduled', 'blocked', 'disabled') AND state IN (SELECT value FROM json_each(:states))
UNION ALL
SELECT n FROM jobq_life WHERE state = 'pending' AND 'pending' IN (SELECT value FROM json_each(:states))
UNION ALL
SELECT n FROM jobq_life WHERE state = 'processing' AND 'processing' IN (SELECT value FROM json_each(:states))
UNION ALL
SELECT n FROM jobq_life
WHERE finished_at IS NOT NULL AND state <> 'completed' AND state IN (SELECT value FROM json_each(:states))

-- name: find_states
-- As find, for states that few jobs are in, so that failures are found quickly among millions of completed jobs.
WITH found (n) AS MATERIALIZED (
    SELECT job.n
    FROM ({in_states}) AS candidate
    CROSS JOIN jobq_life AS life ON life.n = candidate.n
    CROSS JOIN jobq_job AS job ON job.n = life.n
    WHERE {filters}
    ORDER BY job.id DESC
    LIMIT :limit
)
SELECT {record}
FROM found CROSS JOIN jobq_job AS job ON job.n = found.n CROSS JOIN jobq_life AS life ON life.n = job.n
ORDER BY job.id DESC

-- name: count_states
-- How many jobs are in :states, which do not include 'completed'; counts up to :limit.
SELECT count(*) FROM (SELECT n FROM ({in_states}) LIMIT :limit)

-- name: counts
-- One part per index of states; none of them reads the table.
SELECT queue, 'pending', count(*) FROM jobq_life WHERE state = 'pending' GROUP BY queue
UNION ALL
SELECT queue, state, count(*) FROM jobq_life
WHERE state IN ('scheduled', 'blocked', 'disabled') GROUP BY queue, state
UNION ALL
SELECT queue, 'processing', count(*) FROM jobq_life WHERE state = 'processing' GROUP BY queue
UNION ALL
SELECT queue, state, count(*) FROM jobq_life WHERE finished_at IS NOT NULL GROUP BY queue, state

-- name: counts_of_queue
-- As counts, of one queue.
SELECT queue, 'pending', count(*) FROM jobq_life WHERE state = 'pending' AND queue = :queue GROUP BY queue
UNION ALL
SELECT queue, state, count(*) FROM jobq_life
WHERE state IN ('scheduled', 'blocked', 'disabled') AND queue = :queue GROUP BY queue, state
UNION ALL
SELECT queue, 'processing', count(*) FROM jobq_life WHERE state = 'processing' AND queue = :queue GROUP BY queue
UNION ALL
SELECT queue, state, count(*) FROM jobq_life WHERE finished_at IS NOT NULL AND queue = :queue GROUP BY queue, state
