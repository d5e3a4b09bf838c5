-- Add jobs, each with its token in `ready` or `waiting`. Answers which were new (NULL if all were), and how many.
--
-- $1 ids, $2 arguments; then columns with one value per job, or NULL for the whole column if no job has a value: $3
-- queues, $4 kinds, $5 priorities, $6 max_attempts (these four default to $20..$23), $7 run_at, $8 seconds until
-- run_at, $9 deadline, $10 seconds until the deadline, $11 timeout, $12 backoff, $13 unique keys, $14 run ids, $15 tags
-- (each the text of an array), $16 fingerprints, $17 meta, $18 flags, $19 follow-ups.
--
-- The tokens come from the inserted jobs. So the transaction has its number before it draws a position (see
-- watermarks.py), and a job that was stored already gets no second token.
WITH moment AS MATERIALIZED (
    SELECT jobq.clock() AS now
), made AS (
    INSERT INTO jobq.job (
        id, created_at, run_at, deadline, timeout, priority, max_attempts, flags, queue, kind, arguments, meta, backoff,
        unique_key, run_id, tags, fingerprint, follow_up
    )
    SELECT g.id, (SELECT now FROM moment),
        coalesce(g.run_at, (SELECT now FROM moment) + pg_catalog.make_interval(secs => g.run_in)),
        coalesce(g.deadline, (SELECT now FROM moment) + pg_catalog.make_interval(secs => g.deadline_in)), g.timeout,
        coalesce(g.priority, $22::smallint), coalesce(g.max_attempts, $23::smallint), coalesce(g.flags, 0::smallint),
        coalesce(g.queue, $20::text), coalesce(g.kind, $21::text), g.arguments, g.meta, g.backoff, g.unique_key,
        g.run_id, g.tags::text[], g.fingerprint, g.follow_up
    FROM unnest(
        $1::uuid[], $2::json[], $3::text[], $4::text[], $5::smallint[], $6::smallint[], $7::timestamptz[],
        $8::float8[], $9::timestamptz[], $10::float8[], $11::float8[], $12::json[], $13::text[], $14::text[],
        $15::text[], $16::bytea[], $17::json[], $18::smallint[], $19::json[]
    ) WITH ORDINALITY AS g(
        id, arguments, queue, kind, priority, max_attempts, run_at, run_in,
        deadline, deadline_in, timeout, backoff, unique_key, run_id, tags, fingerprint, meta, flags, follow_up, ord
    )
    ORDER BY g.ord
    ON CONFLICT (id) DO NOTHING
    RETURNING id, queue, kind, priority, flags, run_at, deadline, tags, unique_key IS NOT NULL AS keyed,
        pg_catalog.octet_length(pg_catalog.json_send(arguments)) AS size
), tagged AS (
    INSERT INTO jobq.job_tag (id, tag)
    SELECT DISTINCT made.id, t.tag FROM made CROSS JOIN LATERAL pg_catalog.unnest(made.tags) AS t(tag)
    WHERE $15 IS NOT NULL
), later AS (
    INSERT INTO jobq.waiting (
        id, position, since, run_at, deadline, size, priority, attempt, flags, keyed, state, queue, kind, reason
    )
    SELECT made.id, pg_catalog.nextval('jobq.position'), moment.now,
        CASE WHEN made.run_at > moment.now THEN made.run_at END, made.deadline, made.size, made.priority, 0, made.flags,
        made.keyed, CASE WHEN made.run_at > moment.now THEN 'scheduled' ELSE 'blocked' END, made.queue, made.kind,
        CASE WHEN made.run_at > moment.now THEN 'delayed' ELSE 'gated' END
    FROM made, moment
    WHERE ($7 IS NOT NULL OR $8 IS NOT NULL OR $18 IS NOT NULL) AND (made.run_at > moment.now OR made.flags & 1 <> 0)
), now AS (
    INSERT INTO jobq.ready (
        id, position, since, run_at, deadline, size, rank, priority, attempt, flags, keyed, queue, kind
    )
    SELECT made.id, pg_catalog.nextval('jobq.position'), (SELECT now FROM moment), made.run_at, made.deadline,
        made.size, made.priority, made.priority, 0, made.flags, made.keyed, made.queue, made.kind
    FROM made
    WHERE (made.run_at IS NULL OR made.run_at <= (SELECT now FROM moment)) AND made.flags & 1 = 0
)
SELECT CASE WHEN count(*) < pg_catalog.cardinality($1) THEN pg_catalog.array_agg(id) END, count(*) FROM made
