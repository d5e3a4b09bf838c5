-- Count the unfinished jobs by queue and state, unless another process did so since it was last due or does so now.
-- Answers in how many seconds it is due again. The count before becomes the last one of the steps that are over: of a
-- minute, of ten minutes, of an hour. $1 seconds between two counts at least, $2 or so many times what the last one
-- took.
WITH moment AS MATERIALIZED (
    SELECT jobq.clock() AS now
), held AS MATERIALIZED (
    SELECT d.* FROM moment m, jobq.depth d WHERE d.due_at <= m.now OR d.at > m.now FOR UPDATE OF d SKIP LOCKED
), due AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM held) OR NOT EXISTS (SELECT FROM jobq.depth) AS yes
), counted AS MATERIALIZED (
    SELECT queue, state, count(*) AS jobs, min(since) FILTER (WHERE isfinite(since)) AS oldest
    FROM jobq.waiting
    WHERE (SELECT yes FROM due)
    GROUP BY queue, state
    UNION ALL
    SELECT queue, 'pending', count(*), min(since) FILTER (WHERE isfinite(since))
    FROM jobq.ready
    WHERE (SELECT yes FROM due)
    GROUP BY queue
    UNION ALL
    SELECT queue, 'processing', count(*), min(started_at) FILTER (WHERE isfinite(started_at))
    FROM jobq.running
    WHERE (SELECT yes FROM due)
    GROUP BY queue
), kept AS (
    INSERT INTO jobq.depth_point (step, start, at, queues, states, jobs, oldest)
    SELECT s.step, s.start, h.at, h.queues, h.states, h.jobs, h.oldest
    FROM moment m, held h
    CROSS JOIN LATERAL (
        SELECT step, date_bin(make_interval(secs => step), h.at, 'epoch') AS start,
            date_bin(make_interval(secs => step), m.now, 'epoch') AS now
        FROM unnest(ARRAY[60, 600, 3600]) AS step
    ) s
    WHERE s.start <> s.now AND cardinality(h.queues) > 0
    ON CONFLICT (step, start) DO UPDATE SET
        at = excluded.at, queues = excluded.queues, states = excluded.states, jobs = excluded.jobs,
        oldest = excluded.oldest
), sampled AS (
    INSERT INTO jobq.depth AS d (at, due_at, queues, states, jobs, oldest)
    SELECT m.now,
        m.now + make_interval(secs => greatest($1::float8, $2::float8 * date_part('epoch', jobq.clock() - m.now))),
        c.queues, c.states, c.jobs, c.oldest
    FROM moment m, (
        SELECT coalesce(array_agg(queue), '{}') AS queues, coalesce(array_agg(state), '{}') AS states,
            coalesce(array_agg(jobs), '{}') AS jobs, coalesce(array_agg(oldest), '{}') AS oldest
        FROM counted
    ) c
    WHERE (SELECT yes FROM due)
    ON CONFLICT (one) DO UPDATE SET
        at = excluded.at, due_at = excluded.due_at, queues = excluded.queues, states = excluded.states,
        jobs = excluded.jobs, oldest = excluded.oldest
    RETURNING date_part('epoch', due_at - at) AS seconds
)
SELECT coalesce((SELECT seconds FROM sampled), CASE WHEN d.seconds > 0 THEN d.seconds ELSE $1 END)
FROM (SELECT date_part('epoch', (SELECT due_at FROM jobq.depth) - (SELECT now FROM moment)) AS seconds) d
