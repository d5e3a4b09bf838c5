-- Reading jobs and counting them. Each statement is a read of its own.

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

-- name: filters
-- What a JobFilter asks for; NULL asks for everything.
job.id >= :first AND job.id < :before
    AND (:queue IS NULL OR life.queue = :queue)
    AND (:states IS NULL OR life.state IN (SELECT value FROM json_each(:states)))
    AND (:kinds IS NULL OR job.kind IN (SELECT value FROM json_each(:kinds)))
    AND (:tags IS NULL OR NOT EXISTS (
        SELECT 1 FROM json_each(:tags) AS asked
        WHERE asked.value NOT IN (SELECT value FROM json_each(coalesce(job.tags, '[]')))
    ))

-- name: found
-- The columns of a JobSummary with its error.
{summary}, attempt.type, attempt.message

-- name: joined
-- The tables of `found`.
jobq_job AS job
CROSS JOIN jobq_life AS life ON life.n = job.n
LEFT JOIN jobq_attempt AS attempt ON attempt.n = life.n AND attempt.lease = life.error_lease

-- name: find
-- From the newest id down until enough jobs match.
SELECT {found}
FROM {joined}
WHERE {filters}
ORDER BY job.id DESC
LIMIT :limit

-- name: find_run_id
-- As find, within one run.
SELECT {found}
FROM {joined}
WHERE job.run_id = :run_id AND {filters}
ORDER BY job.id DESC
LIMIT :limit

-- name: find_spans
-- The newest spans before :end that have jobs of all that is asked for, one of which is named: the others are NULL or
-- arrays as JSON. :ended: the states, if only failed and aborted jobs are asked for.
SELECT span FROM jobq_span AS driver
WHERE driver.what = :what AND driver.name = :of AND driver.span < :end
    AND (:queue IS NULL OR EXISTS (
        SELECT 1 FROM jobq_span AS other WHERE other.what = 'queue' AND other.name = :queue AND other.span = driver.span
    ))
    AND (:kinds IS NULL OR EXISTS (
        SELECT 1 FROM json_each(:kinds) AS kind
        CROSS JOIN jobq_span AS other
            ON other.what = 'kind' AND other.name = kind.value AND other.span = driver.span
    ))
    AND (:ended IS NULL OR EXISTS (
        SELECT 1 FROM json_each(:ended) AS state
        CROSS JOIN jobq_span AS other
            ON other.what = 'state' AND other.name = state.value AND other.span = driver.span
    ))
    AND (:tags IS NULL OR NOT EXISTS (
        SELECT 1 FROM json_each(:tags) AS tag
        WHERE NOT EXISTS (
            SELECT 1 FROM jobq_span AS other
            WHERE other.what = 'tag' AND other.name = tag.value AND other.span = driver.span
        )
    ))
ORDER BY span DESC
LIMIT :limit

-- name: in_states
-- The jobs in :states, which do not include 'completed', by the indexes of the states.
SELECT n FROM jobq_life
WHERE reason IS NOT NULL AND finished_at IS NULL AND state IN (SELECT value FROM json_each(:states))
UNION ALL
SELECT n FROM jobq_life WHERE state = 'pending' AND 'pending' IN (SELECT value FROM json_each(:states))
UNION ALL
SELECT n FROM jobq_life WHERE state = 'processing' AND 'processing' IN (SELECT value FROM json_each(:states))
UNION ALL
SELECT life.n
FROM jobq_count AS counted
CROSS JOIN jobq_life AS life ON life.queue = counted.queue AND life.state = counted.state
WHERE counted.state <> 'completed' AND counted.state IN (SELECT value FROM json_each(:states))
    AND (:queue IS NULL OR counted.queue = :queue) AND life.finished_at IS NOT NULL

-- name: find_states
-- As find, for states that few jobs are in, so that failures are found quickly among millions of completed jobs.
WITH candidate (n) AS MATERIALIZED (
    SELECT job.n
    FROM ({in_states}) AS candidate
    CROSS JOIN jobq_life AS life ON life.n = candidate.n
    CROSS JOIN jobq_job AS job ON job.n = life.n
    WHERE {filters}
    ORDER BY job.id DESC
    LIMIT :limit
)
SELECT {found}
FROM candidate
CROSS JOIN jobq_job AS job ON job.n = candidate.n
CROSS JOIN jobq_life AS life ON life.n = job.n
LEFT JOIN jobq_attempt AS attempt ON attempt.n = life.n AND attempt.lease = life.error_lease
ORDER BY job.id DESC

-- name: count_states
-- How many jobs are in :states, which do not include 'completed'; counts up to :limit.
SELECT count(*) FROM (SELECT n FROM ({in_states}) LIMIT :limit)

-- name: counts
-- One part per index of states; none of them reads the table. Finished jobs were counted when they ended.
SELECT queue, 'pending', count(*) FROM jobq_life WHERE state = 'pending' GROUP BY queue
UNION ALL
SELECT queue, state, count(*) FROM jobq_life
WHERE reason IS NOT NULL AND finished_at IS NULL GROUP BY queue, state
UNION ALL
SELECT queue, 'processing', count(*) FROM jobq_life WHERE state = 'processing' GROUP BY queue
UNION ALL
SELECT queue, state, jobs FROM jobq_count WHERE jobs > 0

-- name: counts_of_queue
-- As counts, of one queue.
SELECT queue, 'pending', count(*) FROM jobq_life WHERE state = 'pending' AND queue = :queue GROUP BY queue
UNION ALL
SELECT queue, state, count(*) FROM jobq_life
WHERE reason IS NOT NULL AND finished_at IS NULL AND queue = :queue GROUP BY queue, state
UNION ALL
SELECT queue, 'processing', count(*) FROM jobq_life WHERE state = 'processing' AND queue = :queue GROUP BY queue
UNION ALL
SELECT queue, state, jobs FROM jobq_count WHERE queue = :queue AND jobs > 0

-- name: queues
SELECT queue, paused_at, owner, completed, failed, aborted FROM jobq_queue
WHERE paused_at IS NOT NULL OR owner IS NOT NULL
ORDER BY queue

-- name: statistics
-- The minutes from :since on and before :until, of one queue or, with NULL, of all.
SELECT minute, queue, kind, state, jobs, waiting_seconds, running_seconds, waiting, running
FROM jobq_tally
WHERE minute >= :since AND minute < :until AND (:queue IS NULL OR queue = :queue)
ORDER BY minute, queue, kind, state
