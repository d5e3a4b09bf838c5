-- Read the depths of the past: start of the step, queue, state, number of jobs, and for how long the oldest was in this
-- state. The last sample is that of the step that is not over yet. $1 queue, $2 first start (NULL: an hour ago), $3
-- start to end before (NULL: now), $4 step in seconds, $5 how many seconds it is kept, $6 whether the queues are summed
-- up, as ''; $1 may be NULL.
WITH span AS MATERIALIZED (
    SELECT coalesce($2::timestamptz, jobq.clock() - interval '1 hour') AS since,
        coalesce($3::timestamptz, jobq.clock() + interval '1 second') AS until
), last AS MATERIALIZED (
    SELECT d.*, date_bin(make_interval(secs => $4::integer), d.at, 'epoch') AS start
    FROM jobq.depth d
    WHERE d.at > jobq.clock() - make_interval(secs => $5::integer)
)
SELECT p.start, CASE WHEN $6::boolean THEN '' ELSE u.queue END AS queue, u.state, sum(u.jobs)::bigint,
    greatest(date_part('epoch', max(p.at - u.oldest)), 0)
FROM (
    SELECT p.start, p.at, p.queues, p.states, p.jobs, p.oldest
    FROM jobq.depth_point p
    WHERE p.step = $4 AND p.start >= (SELECT since FROM span) AND p.start < (SELECT until FROM span)
        AND NOT EXISTS (SELECT FROM last l WHERE l.start = p.start)
    UNION ALL
    SELECT l.start, l.at, l.queues, l.states, l.jobs, l.oldest
    FROM last l
    WHERE l.start >= (SELECT since FROM span) AND l.start < (SELECT until FROM span)
) p
CROSS JOIN LATERAL unnest(p.queues, p.states, p.jobs, p.oldest) AS u(queue, state, jobs, oldest)
WHERE $1::text IS NULL OR u.queue = $1
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
