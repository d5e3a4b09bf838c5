-- Sum up the numbers of finished jobs, and by minute the statistics of those that ended.
WITH gone AS MATERIALIZED (
    DELETE FROM jobq.tally
    WHERE ctid = ANY(ARRAY(SELECT ctid FROM jobq.tally LIMIT 20000 FOR UPDATE SKIP LOCKED))
    RETURNING at, jobs, waited, ran, queue, kind, state, buckets
), totals AS (
    INSERT INTO jobq.tally (jobs, queue, kind, state)
    SELECT sum(jobs)::bigint, queue, kind, state FROM gone GROUP BY queue, kind, state HAVING sum(jobs) <> 0
), endings AS MATERIALIZED (
    SELECT date_trunc('minute', at) AS minute, * FROM gone WHERE jobs > 0 AND at IS NOT NULL
), counted AS MATERIALIZED (
    SELECT e.minute, e.queue, e.kind, e.state, b.bucket / 128 AS waiting, b.bucket % 128 AS running, count(*) AS jobs
    FROM endings e
    CROSS JOIN LATERAL unnest(e.buckets) AS b(bucket)
    GROUP BY 1, 2, 3, 4, 5, 6
), pairs AS MATERIALIZED (
    SELECT minute, queue, kind, state, side, array_agg(ARRAY[bucket, jobs] ORDER BY bucket) AS histogram
    FROM (
        SELECT minute, queue, kind, state, side, bucket, sum(jobs)::integer AS jobs
        FROM counted
        CROSS JOIN LATERAL (VALUES (true, waiting), (false, running)) AS sides(side, bucket)
        GROUP BY 1, 2, 3, 4, 5, 6
    ) c
    GROUP BY 1, 2, 3, 4, 5
)
INSERT INTO jobq.statistic (minute, queue, kind, state, jobs, waited, ran, waiting, running)
SELECT e.*, coalesce(w.histogram, '{}'), coalesce(r.histogram, '{}')
FROM (
    SELECT minute, queue, kind, state, sum(jobs)::bigint, sum(waited), sum(ran) FROM endings GROUP BY 1, 2, 3, 4
) e
LEFT JOIN pairs w ON (w.minute, w.queue, w.kind, w.state) = (e.minute, e.queue, e.kind, e.state) AND w.side
LEFT JOIN pairs r ON (r.minute, r.queue, r.kind, r.state) = (e.minute, e.queue, e.kind, e.state) AND NOT r.side
