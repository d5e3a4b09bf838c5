-- Read the statistics of minutes: those that are summed up, and what is still in `tally`, as rows that add up. The
-- histograms consist of pairs of a bucket and its number of jobs, in which a bucket may be repeated.
-- $1 queue, $2 first minute (NULL: an hour ago), $3 minute to end before (NULL: now); $1 may be NULL.
WITH span AS MATERIALIZED (
    SELECT coalesce($2::timestamptz, jobq.clock() - interval '1 hour') AS since,
        coalesce($3::timestamptz, jobq.clock() + interval '1 minute') AS until
), recent AS MATERIALIZED (
    SELECT date_trunc('minute', t.at) AS minute, t.queue, t.kind, t.state, t.jobs, t.waited, t.ran, t.buckets
    FROM jobq.tally t, span
    WHERE t.jobs > 0 AND date_trunc('minute', t.at) >= span.since AND date_trunc('minute', t.at) < span.until
        AND ($1::text IS NULL OR t.queue = $1)
)
SELECT s.minute, s.queue, s.kind, s.state, s.jobs, s.waited, s.ran, s.waiting, s.running
FROM span, jobq.statistic s
WHERE s.minute >= span.since AND s.minute < span.until AND ($1 IS NULL OR s.queue = $1)
UNION ALL
SELECT minute, queue, kind, state, sum(jobs)::bigint, coalesce(sum(waited), 0), coalesce(sum(ran), 0), '{}', '{}'
FROM recent
GROUP BY minute, queue, kind, state
UNION ALL
SELECT minute, queue, kind, state, 0, 0, 0, array_agg(ARRAY[bucket / 128, jobs]), array_agg(ARRAY[bucket % 128, jobs])
FROM (
    SELECT r.minute, r.queue, r.kind, r.state, b.bucket::integer, count(*)::integer AS jobs
    FROM recent r
    CROSS JOIN LATERAL unnest(r.buckets) AS b(bucket)
    GROUP BY r.minute, r.queue, r.kind, r.state, b.bucket
) c
GROUP BY minute, queue, kind, state
