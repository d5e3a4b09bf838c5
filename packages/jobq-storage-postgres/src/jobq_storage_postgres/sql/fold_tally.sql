-- Sum up the numbers of finished jobs, and the statistics by minute; forget statistics of more than 30 days ago.
-- Answers how many rows were summed up. $1 limit.
WITH gone AS MATERIALIZED (
    DELETE FROM jobq.tally
    WHERE ctid = ANY(ARRAY(SELECT ctid FROM jobq.tally LIMIT $1::integer FOR UPDATE SKIP LOCKED))
    RETURNING date_trunc('minute', at) AS minute, finished, jobs, waited, ran, queue, kind, state, buckets
), totals AS (
    INSERT INTO jobq.tally (finished, queue, kind, state)
    SELECT sum(finished)::bigint, queue, kind, state FROM gone GROUP BY queue, kind, state HAVING sum(finished) <> 0
), before AS MATERIALIZED (
    DELETE FROM jobq.statistic
    WHERE ctid = ANY(ARRAY(
        SELECT s.ctid FROM jobq.statistic s
        WHERE s.minute >= (SELECT min(minute) FROM gone) OR s.minute < jobq.clock() - interval '30 days'
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING *
), counted AS (
    SELECT g.minute, g.queue, g.kind, g.state, b.bucket / 128 AS bucket, true AS waiting, count(*) AS jobs
    FROM gone g
    CROSS JOIN LATERAL unnest(g.buckets) AS b(bucket)
    GROUP BY 1, 2, 3, 4, 5
    UNION ALL
    SELECT g.minute, g.queue, g.kind, g.state, b.bucket % 128, false, count(*)
    FROM gone g
    CROSS JOIN LATERAL unnest(g.buckets) AS b(bucket)
    GROUP BY 1, 2, 3, 4, 5
    UNION ALL
    SELECT s.minute, s.queue, s.kind, s.state, s.waiting[i][1], true, s.waiting[i][2]
    FROM before s
    CROSS JOIN LATERAL generate_subscripts(s.waiting, 1) AS i
    UNION ALL
    SELECT s.minute, s.queue, s.kind, s.state, s.running[i][1], false, s.running[i][2]
    FROM before s
    CROSS JOIN LATERAL generate_subscripts(s.running, 1) AS i
), histograms AS MATERIALIZED (
    SELECT minute, queue, kind, state,
        array_agg(ARRAY[bucket, jobs] ORDER BY bucket) FILTER (WHERE waiting) AS waiting,
        array_agg(ARRAY[bucket, jobs] ORDER BY bucket) FILTER (WHERE NOT waiting) AS running
    FROM (
        SELECT minute, queue, kind, state, waiting, bucket, sum(jobs)::integer AS jobs
        FROM counted
        GROUP BY minute, queue, kind, state, waiting, bucket
    ) c
    GROUP BY minute, queue, kind, state
), sums AS MATERIALIZED (
    SELECT minute, queue, kind, state, sum(jobs)::bigint AS jobs, coalesce(sum(waited), 0) AS waited,
        coalesce(sum(ran), 0) AS ran
    FROM (
        SELECT minute, queue, kind, state, jobs, waited, ran FROM gone WHERE minute IS NOT NULL AND jobs > 0
        UNION ALL
        SELECT minute, queue, kind, state, jobs, waited, ran FROM before WHERE minute >= jobq.clock() - interval '30 days'
    ) s
    GROUP BY minute, queue, kind, state
), kept AS (
    INSERT INTO jobq.statistic (minute, queue, kind, state, jobs, waited, ran, waiting, running)
    SELECT s.minute, s.queue, s.kind, s.state, s.jobs, s.waited, s.ran, coalesce(h.waiting, '{}'),
        coalesce(h.running, '{}')
    FROM sums s
    LEFT JOIN histograms h ON (h.minute, h.queue, h.kind, h.state) = (s.minute, s.queue, s.kind, s.state)
)
SELECT count(*) FROM gone
