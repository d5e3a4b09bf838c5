-- Name the unique key of these jobs that an open transaction holds; see the function. $1 job ids.
SELECT b.queue, b.key, b.holder, b.application, b.open_for
FROM (
    SELECT array_agg(j.queue) AS queues, array_agg(j.unique_key) AS keys, array_agg(j.id) AS jobs
    FROM jobq.job j
    WHERE j.id = ANY($1::uuid[]) AND j.unique_key IS NOT NULL
) g
CROSS JOIN LATERAL jobq.busy_key(g.queues, g.keys, g.jobs) b
