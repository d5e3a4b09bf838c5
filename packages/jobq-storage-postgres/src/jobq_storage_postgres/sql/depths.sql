-- Count jobs by queue and state: finished ones as they ended; others one by one if there are few of a state, else as of
-- the last sample, if there is one. Answers queue, state, number, since when the oldest is in this state, and as of
-- when.
-- $1 queue, or NULL; $2 up to how many jobs of a state are counted.
WITH RECURSIVE pairs AS (
    -- Each queue and state of jobs that wait, by one look at the index each.
    (SELECT queue, state FROM jobq.waiting WHERE $1::text IS NULL ORDER BY queue, state LIMIT 1)
    UNION ALL
    {next_pair}
), few AS MATERIALIZED (
    SELECT w.queue, s.state, w.jobs, w.oldest
    FROM unnest(ARRAY['scheduled', 'blocked', 'disabled']) AS s(state)
    CROSS JOIN LATERAL (
        SELECT l.queue, count(*) AS jobs, min(l.since) AS oldest
        FROM (
            SELECT p.queue, w.since
            FROM (SELECT queue FROM pairs WHERE state = s.state UNION ALL SELECT $1 WHERE $1 IS NOT NULL) p
            CROSS JOIN LATERAL (SELECT w.since FROM jobq.waiting w WHERE w.queue = p.queue AND w.state = s.state) w
            LIMIT $2::bigint + 1
        ) l
        GROUP BY l.queue
    ) w
    UNION ALL
    SELECT queue, 'pending', count(*), min(since)
    FROM (
        (SELECT queue, since FROM jobq.ready WHERE $1 IS NULL LIMIT $2 + 1)
        UNION ALL
        (SELECT queue, since FROM jobq.ready WHERE queue = $1 LIMIT $2 + 1)
    ) r
    GROUP BY queue
    UNION ALL
    SELECT queue, 'processing', count(*), min(started_at)
    FROM (SELECT queue, started_at FROM jobq.running WHERE $1 IS NULL OR queue = $1 LIMIT $2 + 1) r
    GROUP BY queue
), many AS MATERIALIZED (
    SELECT coalesce(array_agg(s.state), '{}') AS states
    FROM (SELECT state FROM few GROUP BY state HAVING sum(jobs) > $2) s
), sample AS MATERIALIZED (
    SELECT u.queue, u.state, u.jobs, u.oldest, d.at
    FROM jobq.depth d
    CROSS JOIN LATERAL unnest(d.queues, d.states, d.jobs, d.oldest) AS u(queue, state, jobs, oldest)
), known AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM jobq.depth) AS yes
)
SELECT queue, state, jobs, oldest, jobq.clock()
FROM few
WHERE state <> ALL((SELECT states FROM many)::text[])
UNION ALL
SELECT queue, state, jobs, oldest, at
FROM sample
WHERE state = ANY((SELECT states FROM many)::text[]) AND ($1 IS NULL OR queue = $1)
UNION ALL
SELECT queue, state, count(*), min(since), jobq.clock()
FROM jobq.waiting
WHERE (SELECT NOT yes FROM known) AND state = ANY((SELECT states FROM many)::text[]) AND ($1 IS NULL OR queue = $1)
GROUP BY queue, state
UNION ALL
SELECT queue, 'pending', count(*), min(since), jobq.clock()
FROM jobq.ready
WHERE (SELECT NOT yes FROM known) AND (SELECT 'pending' = ANY(states) FROM many) AND ($1 IS NULL OR queue = $1)
GROUP BY queue
UNION ALL
SELECT queue, 'processing', count(*), min(started_at), jobq.clock()
FROM jobq.running
WHERE (SELECT NOT yes FROM known) AND (SELECT 'processing' = ANY(states) FROM many) AND ($1 IS NULL OR queue = $1)
GROUP BY queue
UNION ALL
SELECT queue, state, sum(finished)::bigint, NULL, jobq.clock()
FROM jobq.tally
WHERE $1 IS NULL OR queue = $1
GROUP BY queue, state
HAVING sum(finished) > 0
ORDER BY 1, 2
