-- Count jobs by queue and state; never below 0, even where outcomes were deleted by hand.
SELECT c.queue, c.state, sum(c.jobs)::bigint
FROM (
    SELECT queue, state, count(*) AS jobs FROM jobq.waiting GROUP BY queue, state
    UNION ALL SELECT queue, 'pending', count(*) FROM jobq.ready GROUP BY queue
    UNION ALL SELECT queue, 'processing', count(*) FROM jobq.running GROUP BY queue
    UNION ALL SELECT queue, state, sum(finished) FROM jobq.tally GROUP BY queue, state
) c
GROUP BY c.queue, c.state
HAVING sum(c.jobs) > 0
ORDER BY c.queue, c.state
