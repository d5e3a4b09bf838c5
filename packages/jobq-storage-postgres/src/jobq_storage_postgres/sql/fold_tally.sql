-- Sum up the numbers of finished jobs, and the statistics by minute, ten minutes and hour, of each queue and kind and of
-- all together; forget those that are over.
-- Answers how many rows were summed up. $1 limit; $2 steps in seconds, $3 how many seconds each is kept.
WITH steps AS MATERIALIZED (
    SELECT s.step, make_interval(secs => s.step) AS span, jobq.clock() - make_interval(secs => s.kept) AS over
    FROM unnest($2::integer[], $3::integer[]) AS s(step, kept)
), gone AS MATERIALIZED (
    DELETE FROM jobq.tally
    WHERE ctid = ANY(ARRAY(SELECT ctid FROM jobq.tally LIMIT $1::integer FOR UPDATE SKIP LOCKED))
    RETURNING date_trunc('minute', at) AS minute, finished, jobs, waited, ran, queue, kind, state, buckets
), totals AS (
    INSERT INTO jobq.tally (finished, queue, kind, state)
    SELECT sum(finished)::bigint, queue, kind, state FROM gone GROUP BY queue, kind, state HAVING sum(finished) <> 0
), before AS MATERIALIZED (
    DELETE FROM jobq.statistic
    WHERE ctid = ANY(ARRAY(
        SELECT s.ctid
        FROM steps p
        CROSS JOIN LATERAL (
            SELECT s.ctid FROM jobq.statistic s
            WHERE s.step = p.step AND s.start >= date_bin(p.span, (SELECT min(minute) FROM gone), 'epoch')
            FOR UPDATE SKIP LOCKED
        ) s
    ))
    RETURNING *
), old AS (
    DELETE FROM jobq.statistic
    WHERE ctid = ANY(ARRAY(
        SELECT s.ctid
        FROM steps p
        CROSS JOIN LATERAL (
            SELECT s.ctid FROM jobq.statistic s
            WHERE s.step = p.step AND s.start <= p.over
            LIMIT $1
            FOR UPDATE SKIP LOCKED
        ) s
    ))
), runs AS MATERIALIZED (
    SELECT g.minute, g.queue, g.kind, g.state, b.bucket, count(*) AS jobs
    FROM gone g
    CROSS JOIN LATERAL unnest(g.buckets) AS b(bucket)
    GROUP BY g.minute, g.queue, g.kind, g.state, b.bucket
), counted AS (
    SELECT p.step, date_bin(p.span, r.minute, 'epoch') AS start, n.queue, n.kind, r.state, w.waiting,
        CASE WHEN w.waiting THEN r.bucket / 128 ELSE r.bucket % 128 END AS bucket, r.jobs
    FROM runs r
    CROSS JOIN LATERAL (VALUES (r.queue, r.kind), ('', '')) AS n(queue, kind)
    CROSS JOIN steps p
    CROSS JOIN (VALUES (true), (false)) AS w(waiting)
    UNION ALL
    SELECT s.step, s.start, s.queue, s.kind, s.state, h.waiting, b.key::integer, b.value::bigint
    FROM before s
    CROSS JOIN LATERAL (VALUES (true, s.waiting), (false, s.running)) AS h(waiting, histogram)
    CROSS JOIN LATERAL json_each_text(h.histogram) AS b
), histograms AS MATERIALIZED (
    SELECT step, start, queue, kind, state,
        string_agg(format('"%s":%s', bucket, jobs), ',' ORDER BY bucket) FILTER (WHERE waiting) AS waiting,
        string_agg(format('"%s":%s', bucket, jobs), ',' ORDER BY bucket) FILTER (WHERE NOT waiting) AS running
    FROM (
        SELECT step, start, queue, kind, state, waiting, bucket, sum(jobs)::bigint AS jobs
        FROM counted
        GROUP BY step, start, queue, kind, state, waiting, bucket
    ) c
    GROUP BY step, start, queue, kind, state
), sums AS MATERIALIZED (
    SELECT step, start, queue, kind, state, sum(jobs)::bigint AS jobs, coalesce(sum(waited), 0) AS waited,
        coalesce(sum(ran), 0) AS ran
    FROM (
        SELECT p.step, date_bin(p.span, g.minute, 'epoch') AS start, n.queue, n.kind, g.state, g.jobs, g.waited, g.ran
        FROM gone g
        CROSS JOIN LATERAL (VALUES (g.queue, g.kind), ('', '')) AS n(queue, kind)
        CROSS JOIN steps p
        WHERE g.minute IS NOT NULL AND g.jobs > 0
        UNION ALL
        SELECT step, start, queue, kind, state, jobs, waited, ran FROM before
    ) s
    GROUP BY step, start, queue, kind, state
), kept AS (
    INSERT INTO jobq.statistic (step, start, queue, kind, state, jobs, waited, ran, waiting, running)
    SELECT s.step, s.start, s.queue, s.kind, s.state, s.jobs, s.waited, s.ran,
        format('{%s}', h.waiting)::json, format('{%s}', h.running)::json
    FROM sums s
    LEFT JOIN histograms h
        ON (h.step, h.start, h.queue, h.kind, h.state) = (s.step, s.start, s.queue, s.kind, s.state)
)
SELECT count(*) FROM gone
