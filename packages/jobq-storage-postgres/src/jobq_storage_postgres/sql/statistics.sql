-- Read the statistics of steps: those that are summed up, and what is still in `tally`, as rows that add up. Answers
-- with a JSON array of [start, queue, kind, state, number of jobs, seconds waited, seconds run, histogram of the
-- seconds waited, of those run]; thousands of such rows are read in less time than rows of columns.
-- $1 queue, $2 first start (NULL: an hour ago), $3 start to end before (NULL: now), $4 step in seconds; $1 may be NULL.
WITH span AS MATERIALIZED (
    SELECT coalesce($2::timestamptz, jobq.clock() - interval '1 hour') AS since,
        coalesce($3::timestamptz, jobq.clock() + interval '1 minute') AS until
), recent AS MATERIALIZED (
    SELECT s.start, t.queue, t.kind, t.state, t.jobs, t.waited, t.ran, t.buckets
    FROM jobq.tally t, span
    CROSS JOIN LATERAL (SELECT date_bin(make_interval(secs => $4::integer), t.at, 'epoch') AS start) s
    WHERE t.jobs > 0 AND s.start >= span.since AND s.start < span.until AND ($1::text IS NULL OR t.queue = $1)
), runs AS MATERIALIZED (
    SELECT r.start, r.queue, r.kind, r.state, b.bucket, count(*) AS jobs
    FROM recent r
    CROSS JOIN LATERAL unnest(r.buckets) AS b(bucket)
    GROUP BY r.start, r.queue, r.kind, r.state, b.bucket
)
SELECT coalesce(json_agg(json_build_array(
    a.start, a.queue, a.kind, a.state, a.jobs, a.waited, a.ran, a.waiting, a.running
)), '[]')
FROM (
    SELECT s.start, s.queue, s.kind, s.state, s.jobs, s.waited, s.ran, s.waiting, s.running
    FROM jobq.statistic s
    WHERE s.step = $4 AND s.start >= (SELECT since FROM span) AND s.start < (SELECT until FROM span)
        AND ($1 IS NULL OR s.queue = $1)
    UNION ALL
    SELECT start, queue, kind, state, sum(jobs)::bigint, coalesce(sum(waited), 0), coalesce(sum(ran), 0), '{}', '{}'
    FROM recent
    GROUP BY start, queue, kind, state
    UNION ALL
    SELECT start, queue, kind, state, 0, 0, 0, json_object_agg(bucket, jobs), '{}'
    FROM (
        SELECT start, queue, kind, state, bucket / 128 AS bucket, sum(jobs) AS jobs
        FROM runs
        GROUP BY start, queue, kind, state, bucket / 128
    ) w
    GROUP BY start, queue, kind, state
    UNION ALL
    SELECT start, queue, kind, state, 0, 0, 0, '{}', json_object_agg(bucket, jobs)
    FROM (
        SELECT start, queue, kind, state, bucket % 128 AS bucket, sum(jobs) AS jobs
        FROM runs
        GROUP BY start, queue, kind, state, bucket % 128
    ) r
    GROUP BY start, queue, kind, state
) a
