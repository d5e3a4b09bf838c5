-- Statistics of steps that are not summed up yet, as `unsummed`: rows that add up.
span AS MATERIALIZED (
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
), unsummed AS (
    SELECT start, queue, kind, state, sum(jobs)::bigint AS jobs, coalesce(sum(waited), 0) AS waited,
        coalesce(sum(ran), 0) AS ran, '{}'::json AS waiting, '{}'::json AS running
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
)
