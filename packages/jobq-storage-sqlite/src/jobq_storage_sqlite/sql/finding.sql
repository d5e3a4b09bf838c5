-- Finding jobs by a filter, and counting those that match.
--
-- There is a statement for each way to come to the jobs that may match: from the newest id down, within spans, within a
-- run, or by their states. The functions are those of `sql_functions`.

-- name: bounds
job.id >= :first AND job.id < :before

-- name: job_filters
-- What a JobFilter asks for of what was added; NULL asks for everything.
(:kinds IS NULL OR job.kind IN (SELECT value FROM json_each(:kinds)))
    AND (:since IS NULL OR job.created_at >= :since)
    AND (:until IS NULL OR job.created_at < :until)

-- name: tag_filter
(:tags IS NULL OR NOT EXISTS (
        SELECT 1 FROM json_each(:tags) AS asked
        WHERE asked.value NOT IN (SELECT value FROM json_each(coalesce(job.tags, '[]')))
    ))

-- name: filters
-- What a JobFilter asks for, without what it searches for. The tags, which are dearest to compare, come last.
{job_filters}
    AND (:queue IS NULL OR life.queue = :queue)
    AND (:states IS NULL OR life.state IN (SELECT value FROM json_each(:states)))
    AND CASE WHEN life.n IS NULL THEN FALSE ELSE {tag_filter} END

-- name: is_found
-- Whether a job is what a JobFilter searches for; NULL searches for nothing. CASE, since SQLite may call a function on
-- the right of an OR whatever is on its left.
(:error_type IS NULL OR attempt.type = :error_type)
    AND (:worker IS NULL OR life.worker = :worker)
    AND CASE WHEN :error IS NULL THEN TRUE ELSE jobq_contains(attempt.message, :error) END
    AND (:parent IS NULL OR instr(job.meta, :parent) > 0)
    AND CASE WHEN :argument IS NULL THEN TRUE ELSE jobq_has_argument(job.arguments, job.meta, :argument) END

-- name: found
-- The columns of a JobSummary with its error.
{summary}, attempt.type, attempt.message

-- name: searched
-- A job, and whether it is found.
job.n, job.id, {is_found}

-- name: with_life
CROSS JOIN jobq_life AS life ON life.n = job.n

-- name: with_error
CROSS JOIN jobq_life AS life ON life.n = job.n
LEFT JOIN jobq_attempt AS attempt ON attempt.n = life.n AND attempt.lease = life.error_lease

-- name: find
SELECT {found} FROM jobq_job AS job {with_error} WHERE {bounds} AND {filters} ORDER BY job.id DESC LIMIT :limit

-- name: search
SELECT {searched} FROM jobq_job AS job {with_error} WHERE {bounds} AND {filters} ORDER BY job.id DESC LIMIT :limit

-- name: count_jobs
SELECT count(*) FROM (SELECT 1 FROM jobq_job AS job {with_life} WHERE {bounds} AND {filters} LIMIT :limit)

-- name: in_spans
-- The jobs of :spans, an array of pairs as JSON: the first span, and the one after the last. Other conditions on ids need
-- a +, or SQLite might read all jobs by them.
json_each(:spans) AS pair
CROSS JOIN jobq_job AS job
    ON job.id >= jobq_start_of(json_extract(pair.value, '$[0]'))
    AND job.id < jobq_start_of(json_extract(pair.value, '$[1]'))

-- name: find_in_spans
SELECT {found} FROM {in_spans} {with_error} WHERE +job.id < :before AND {filters} ORDER BY job.id DESC LIMIT :limit

-- name: search_in_spans
SELECT {searched} FROM {in_spans} {with_error} WHERE +job.id < :before AND {filters} ORDER BY job.id DESC LIMIT :limit

-- name: count_jobs_in_spans
SELECT count(*) FROM (SELECT 1 FROM {in_spans} {with_life} WHERE +job.id < :before AND {filters} LIMIT :limit)

-- name: jobs_in_spans
-- How many jobs there are, up to :read.
SELECT count(*) FROM (SELECT 1 FROM {in_spans} LIMIT :read)

-- name: find_in_run
SELECT {found} FROM jobq_job AS job {with_error}
WHERE job.run_id = :run_id AND {bounds} AND {filters}
ORDER BY job.id DESC
LIMIT :limit

-- name: search_in_run
SELECT {searched} FROM jobq_job AS job {with_error}
WHERE job.run_id = :run_id AND {bounds} AND {filters}
ORDER BY job.id DESC
LIMIT :limit

-- name: count_jobs_in_run
SELECT count(*) FROM (SELECT 1 FROM jobq_job AS job {with_life} WHERE job.run_id = :run_id AND {bounds} AND {filters} LIMIT :limit)

-- name: in_states
-- The jobs of the queues between :from and :to in :states, which do not include 'completed', by the indexes of the
-- states. Needs `waiting`.
SELECT life.n
FROM waiting
CROSS JOIN jobq_life AS life ON life.queue = waiting.queue AND life.state = waiting.state
WHERE waiting.state IN (SELECT value FROM json_each(:states)) AND life.reason IS NOT NULL AND life.finished_at IS NULL
UNION ALL
SELECT life.n
FROM (SELECT 1 WHERE 'pending' IN (SELECT value FROM json_each(:states))) CROSS JOIN jobq_life AS life
WHERE life.state = 'pending' AND life.queue >= :from AND life.queue <= :to
UNION ALL
SELECT life.n
FROM (SELECT 1 WHERE 'processing' IN (SELECT value FROM json_each(:states))) CROSS JOIN jobq_life AS life
WHERE life.state = 'processing' AND life.queue >= :from AND life.queue <= :to
UNION ALL
SELECT life.n
FROM (SELECT DISTINCT queue, state FROM jobq_count WHERE queue >= :from AND queue <= :to) AS ended
CROSS JOIN jobq_life AS life ON life.queue = ended.queue AND life.state = ended.state
WHERE ended.state <> 'completed' AND ended.state IN (SELECT value FROM json_each(:states))
    AND life.finished_at IS NOT NULL

-- name: of_states
-- Common table expressions: the newest jobs that match and are in :states.
{waiting}, candidate (n) AS MATERIALIZED (
    SELECT job.n
    FROM ({in_states}) AS candidate CROSS JOIN jobq_job AS job ON job.n = candidate.n
    WHERE {bounds} AND {job_filters} AND {tag_filter}
    ORDER BY job.id DESC
    LIMIT :limit
)

-- name: find_in_states
WITH RECURSIVE {of_states}
SELECT {found} FROM candidate CROSS JOIN jobq_job AS job ON job.n = candidate.n {with_error} ORDER BY job.id DESC

-- name: search_in_states
WITH RECURSIVE {of_states}
SELECT {searched} FROM candidate CROSS JOIN jobq_job AS job ON job.n = candidate.n {with_error} ORDER BY job.id DESC

-- name: count_jobs_in_states
WITH RECURSIVE {waiting}
SELECT count(*)
FROM (
    SELECT 1
    FROM ({in_states}) AS candidate CROSS JOIN jobq_job AS job ON job.n = candidate.n
    WHERE {bounds} AND {job_filters} AND {tag_filter}
    LIMIT :limit
)

-- name: count_kinds_in_states
-- How many jobs, up to :read, are in :states, and how many of them are of :kinds, for which there is no index.
WITH RECURSIVE {waiting}
SELECT count(*), count(*) FILTER (WHERE job.kind IN (SELECT value FROM json_each(:kinds)))
FROM (SELECT n FROM ({in_states}) LIMIT :read) AS candidate CROSS JOIN jobq_job AS job ON job.n = candidate.n

-- name: count_states
-- How many jobs of the queues between :from and :to are in :states; of the finished ones, those of :kinds.
WITH RECURSIVE {waiting}
SELECT coalesce(sum(jobs), 0)
FROM (
    SELECT (
        SELECT count(*) FROM jobq_life AS life
        WHERE life.reason IS NOT NULL AND life.finished_at IS NULL AND life.queue = waiting.queue
            AND life.state = waiting.state
    ) AS jobs
    FROM waiting
    WHERE waiting.state IN (SELECT value FROM json_each(:states))
    UNION ALL
    SELECT (SELECT count(*) FROM jobq_life WHERE state = 'pending' AND queue >= :from AND queue <= :to)
    WHERE 'pending' IN (SELECT value FROM json_each(:states))
    UNION ALL
    SELECT (SELECT count(*) FROM jobq_life WHERE state = 'processing' AND queue >= :from AND queue <= :to)
    WHERE 'processing' IN (SELECT value FROM json_each(:states))
    UNION ALL
    SELECT jobs FROM jobq_count
    WHERE queue >= :from AND queue <= :to AND state IN (SELECT value FROM json_each(:states))
        AND (:kinds IS NULL OR kind IN (SELECT value FROM json_each(:kinds)))
)

-- name: find_numbers
SELECT {found}
FROM json_each(:numbers) AS wanted CROSS JOIN jobq_job AS job ON job.n = wanted.value {with_error}
ORDER BY job.id DESC

-- name: find_floor
-- The id that :count newer ones before :before precede.
SELECT id FROM jobq_job WHERE id < :before ORDER BY id DESC LIMIT 1 OFFSET :count

-- name: find_spans
-- The newest spans from :start on and before :end that have jobs of all that is asked for, one of which is named: the
-- others are NULL or arrays as JSON. :ended: the states, if only failed and aborted jobs are asked for.
SELECT span FROM jobq_span AS driver
WHERE driver.what = :what AND driver.name = :of AND driver.span >= :start AND driver.span < :end
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

-- name: find_apart
-- The spans of ids that were made long before, or after, their jobs were added from :since on and before :until, both
-- included, as names of spans.
SELECT DISTINCT span FROM jobq_span WHERE what = 'apart' AND name >= :since AND name <= :until LIMIT :limit
