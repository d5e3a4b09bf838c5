-- How many jobs there are and were: depths, their history, and statistics.

-- name: lines
-- Common table expressions: the queues between :from and :to that have PENDING jobs, and their lines, by a jump from
-- each to the next.
ready (queue) AS (
    SELECT min(queue) FROM jobq_life WHERE state = 'pending' AND queue >= :from AND queue <= :to
    UNION ALL
    SELECT (
        SELECT min(life.queue) FROM jobq_life AS life
        WHERE life.state = 'pending' AND life.queue > ready.queue AND life.queue <= :to
    )
    FROM ready
    WHERE ready.queue IS NOT NULL
), line (queue, urgency) AS (
    SELECT ready.queue, (
        SELECT min(life.urgency) FROM jobq_life AS life WHERE life.state = 'pending' AND life.queue = ready.queue
    )
    FROM ready
    WHERE ready.queue IS NOT NULL
    UNION ALL
    SELECT line.queue, (
        SELECT min(life.urgency) FROM jobq_life AS life
        WHERE life.state = 'pending' AND life.queue = line.queue AND life.urgency > line.urgency
    )
    FROM line
    WHERE line.urgency IS NOT NULL
)

-- name: waiting
-- Common table expressions: the queues between :from and :to that have jobs that wait, by a jump from each to the
-- next, and the states in which they wait.
waiting_queue (queue) AS (
    SELECT min(queue) FROM jobq_life
    WHERE reason IS NOT NULL AND finished_at IS NULL AND queue >= :from AND queue <= :to
    UNION ALL
    SELECT (
        SELECT min(life.queue) FROM jobq_life AS life
        WHERE life.reason IS NOT NULL AND life.finished_at IS NULL AND life.queue > waiting_queue.queue
            AND life.queue <= :to
    )
    FROM waiting_queue
    WHERE waiting_queue.queue IS NOT NULL
), waiting (queue, state) AS (
    SELECT waiting_queue.queue, of.column1
    FROM waiting_queue CROSS JOIN (VALUES ('blocked'), ('disabled'), ('scheduled')) AS of
    WHERE waiting_queue.queue IS NOT NULL
)

-- name: unfinished
-- The unfinished jobs of the queues between :from and :to, by queue and state, counted up to :limit in each line; and
-- since when the oldest one is in that state. The oldest PENDING one is among the first of its line.
SELECT queue, 'pending', sum(jobs), min(oldest)
FROM (
    SELECT line.queue AS queue, (
        SELECT count(*) FROM (
            SELECT 1 FROM jobq_life
            WHERE state = 'pending' AND queue = line.queue AND urgency = line.urgency
            LIMIT :limit
        )
    ) AS jobs, (
        SELECT min(since) FROM (
            SELECT since FROM jobq_life
            WHERE state = 'pending' AND queue = line.queue AND urgency = line.urgency
            ORDER BY position
            LIMIT 100
        )
    ) AS oldest
    FROM line
    WHERE line.urgency IS NOT NULL
)
GROUP BY queue
UNION ALL
SELECT queue, state, jobs, oldest
FROM (
    SELECT waiting.queue AS queue, waiting.state AS state, (
        SELECT count(*) FROM (
            SELECT 1 FROM jobq_life
            WHERE reason IS NOT NULL AND finished_at IS NULL AND queue = waiting.queue AND state = waiting.state
            LIMIT :limit
        )
    ) AS jobs, (
        SELECT min(since) FROM jobq_life
        WHERE reason IS NOT NULL AND finished_at IS NULL AND queue = waiting.queue AND state = waiting.state
    ) AS oldest
    FROM waiting
)
WHERE oldest IS NOT NULL
UNION ALL
SELECT queue, 'processing', count(*), min(started_at) FROM jobq_life
WHERE state = 'processing' AND queue >= :from AND queue <= :to
GROUP BY queue

-- name: count_unfinished
WITH RECURSIVE {lines}, {waiting}
{unfinished}

-- name: depths
-- As count_unfinished, and the finished jobs.
WITH RECURSIVE {lines}, {waiting}
{unfinished}
UNION ALL
SELECT queue, state, sum(jobs), NULL FROM jobq_count
WHERE queue >= :from AND queue <= :to
GROUP BY queue, state
HAVING sum(jobs) > 0

-- name: last_sample
SELECT depth.queue, depth.state, depth.jobs, sample.at - depth.age, sample.at
FROM jobq_sample AS sample CROSS JOIN jobq_depth AS depth ON depth.step = 0 AND depth.start = 0

-- name: find_sample
SELECT uptime, pause FROM jobq_sample WHERE one = 1

-- name: store_sample
INSERT INTO jobq_sample (one, at, uptime, pause) VALUES (1, ?, ?, ?)
ON CONFLICT (one) DO UPDATE SET at = excluded.at, uptime = excluded.uptime, pause = excluded.pause

-- name: clear_depths
DELETE FROM jobq_depth WHERE step = ? AND start = ?

-- name: insert_depth
INSERT INTO jobq_depth (step, start, queue, state, jobs, age) VALUES (?, ?, ?, ?, ?, ?)

-- name: depth_history
-- :together: whether the queues are summed up, as ''.
SELECT start, CASE WHEN :together THEN '' ELSE queue END AS named, state, sum(jobs), max(age) FROM jobq_depth
WHERE step = :step AND start >= :since AND start < :until AND (:queue IS NULL OR queue = :queue)
GROUP BY start, named, state
ORDER BY start, named, state

-- name: jobs_ahead
-- How many PENDING jobs, up to twice :limit, are claimed before the PENDING job :id. No row if it is not PENDING. The +
-- keeps SQLite from looking for the one job in the index of all PENDING ones.
SELECT (
    SELECT count(*) FROM (
        SELECT 1 FROM jobq_life AS ahead
        WHERE ahead.state = 'pending' AND ahead.queue = life.queue AND ahead.urgency < life.urgency
        LIMIT :limit
    )
) + (
    SELECT count(*) FROM (
        SELECT 1 FROM jobq_life AS ahead
        WHERE ahead.state = 'pending' AND ahead.queue = life.queue AND ahead.urgency = life.urgency
            AND ahead.position < life.position
        LIMIT :limit
    )
)
FROM jobq_job AS job CROSS JOIN jobq_life AS life ON life.n = job.n
WHERE job.id = :id AND +life.state = 'pending'

-- name: count_overdue
-- How many SCHEDULED jobs, up to :limit, were due before :before; by the index of promotions.
SELECT count(*) FROM (
    SELECT 1 FROM jobq_life
    WHERE reason IS NOT NULL AND state IN ('scheduled', 'blocked') AND run_at < :before AND +state = 'scheduled'
    LIMIT :limit
)

-- name: tallied
-- The columns of a row of statistics.
minute, queue, kind, state, jobs, waiting_seconds, running_seconds, waiting, running

-- name: summed
-- The first minute that is not summed up to steps of 600 seconds. Steps after :now are of a clock that was ahead.
(SELECT coalesce(max(minute) + 10, 0) FROM jobq_tally_step WHERE step = 600 AND minute <= :now)

-- name: summed_to_hours
(SELECT coalesce(max(minute) + 60, 0) FROM jobq_tally_step WHERE step = 3600 AND minute <= :now)

-- name: statistics
-- The minutes from :since on and before :until, of one queue or, with NULL, of all.
SELECT {tallied} FROM jobq_tally
WHERE minute >= :since AND minute < :until AND (:queue IS NULL OR queue = :queue)

-- name: in_step
-- :together: whether the rows of all queues and kinds together are meant, unless a queue is named.
CASE WHEN :queue IS NULL THEN (queue = '') = :together ELSE queue = :queue END

-- name: statistics_by_600
-- As statistics, by steps of 600 seconds, but for minutes that are not summed up yet.
SELECT {tallied} FROM jobq_tally_step
WHERE step = 600 AND minute >= :since AND minute < :until AND {in_step}
UNION ALL
SELECT {tallied} FROM jobq_tally
WHERE minute >= max(:since, {summed}) AND minute < :until AND (:queue IS NULL OR queue = :queue)

-- name: statistics_by_3600
-- As statistics, by hours, but for what is not summed up to them yet.
SELECT {tallied} FROM jobq_tally_step
WHERE step = 3600 AND minute >= :since AND minute < :until AND {in_step}
UNION ALL
SELECT {tallied} FROM jobq_tally_step
WHERE step = 600 AND minute >= max(:since, {summed_to_hours}) AND minute < :until AND {in_step}
UNION ALL
SELECT {tallied} FROM jobq_tally
WHERE minute >= max(:since, {summed}) AND minute < :until AND (:queue IS NULL OR queue = :queue)

-- name: together
-- Sums, and the histograms in a row.
minute - minute % :minutes, state, sum(jobs), sum(waiting_seconds), sum(running_seconds), group_concat(waiting),
    group_concat(running)

-- name: statistics_together
SELECT {together} FROM ({statistics}) GROUP BY 1, state

-- name: statistics_together_by_600
SELECT {together} FROM ({statistics_by_600}) GROUP BY 1, state

-- name: statistics_together_by_3600
SELECT {together} FROM ({statistics_by_3600}) GROUP BY 1, state

-- name: find_minute_to_sum
-- The first minute before :until that is not summed up.
SELECT min(minute) FROM jobq_tally WHERE minute >= {summed} AND minute < :until

-- name: find_step_to_sum
-- The first step of 600 seconds before :until that is not summed up to an hour.
SELECT min(minute) FROM jobq_tally_step
WHERE step = 600 AND minute >= {summed_to_hours} AND minute < :until

-- name: read_minutes
SELECT {tallied} FROM jobq_tally WHERE minute >= ? AND minute < ?

-- name: read_steps
SELECT {tallied} FROM jobq_tally_step WHERE step = 600 AND minute >= ? AND minute < ?

-- name: insert_step
INSERT INTO jobq_tally_step (step, {tallied}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: delete_tally
-- Delete the minutes before :kept.
DELETE FROM jobq_tally
WHERE (minute, queue, kind, state) IN (
    SELECT minute, queue, kind, state FROM jobq_tally WHERE minute < min(:kept, {summed}) LIMIT :limit
)

-- name: delete_steps
-- Delete the steps of 600 seconds before :kept.
DELETE FROM jobq_tally_step
WHERE (step, minute, queue, kind, state) IN (
    SELECT step, minute, queue, kind, state FROM jobq_tally_step
    WHERE step = 600 AND minute < min(:kept, {summed_to_hours})
    LIMIT :limit
)

-- name: delete_hours
-- Delete the hours before :kept.
DELETE FROM jobq_tally_step
WHERE (step, minute, queue, kind, state) IN (
    SELECT step, minute, queue, kind, state FROM jobq_tally_step WHERE step = 3600 AND minute < :kept LIMIT :limit
)

-- name: delete_depths
-- Parameters: the step, the first start that is kept, the limit.
DELETE FROM jobq_depth
WHERE (step, start, queue, state) IN (
    SELECT step, start, queue, state FROM jobq_depth WHERE step = ? AND start < ? LIMIT ?
)
