-- Count the jobs of a queue by state, as `counts` does; reads nothing of other queues that could be much. $1 queue.
SELECT c.queue, c.state, sum(c.jobs)::bigint
FROM (
    SELECT queue, state, count(*) AS jobs FROM jobq.waiting WHERE queue = $1::text GROUP BY queue, state
    UNION ALL SELECT queue, 'pending', count(*) FROM jobq.ready WHERE queue = $1 GROUP BY queue
    UNION ALL SELECT queue, 'processing', count(*) FROM jobq.running WHERE queue = $1 GROUP BY queue
    UNION ALL SELECT queue, state, sum(finished) FROM jobq.tally WHERE queue = $1 GROUP BY queue, state
) c
GROUP BY c.queue, c.state
HAVING sum(c.jobs) > 0
