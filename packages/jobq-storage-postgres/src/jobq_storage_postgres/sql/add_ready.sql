-- `add` for jobs that may run at once, without tags and flags; see there. Without the statements for the other tables, a
-- group of 50 takes the server a fifth less.
-- $1 ids, $2 arguments; then columns with one value per job, or NULL for the whole column if no job has a value: $3
-- queues, $4 kinds, $5 priorities, $6 max_attempts (these four default to $15..$18), $7 deadline, $8 seconds until the
-- deadline, $9 timeout, $10 backoff, $11 unique keys, $12 run ids, $13 fingerprints, $14 meta.
WITH moment AS MATERIALIZED (
    SELECT jobq.clock() AS now
), made AS (
    INSERT INTO jobq.job (
        id, created_at, deadline, timeout, priority, max_attempts, queue, kind, arguments, meta, backoff, unique_key,
        run_id, fingerprint
    )
    SELECT g.id, (SELECT now FROM moment),
        coalesce(g.deadline, (SELECT now FROM moment) + pg_catalog.make_interval(secs => g.deadline_in)), g.timeout,
        coalesce(g.priority, $17::smallint), coalesce(g.max_attempts, $18::smallint), coalesce(g.queue, $15::text),
        coalesce(g.kind, $16::text), g.arguments, g.meta, g.backoff, g.unique_key, g.run_id, g.fingerprint
    FROM unnest(
        $1::uuid[], $2::json[], $3::text[], $4::text[], $5::smallint[], $6::smallint[], $7::timestamptz[], $8::float8[],
        $9::float8[], $10::json[], $11::text[], $12::text[], $13::bytea[], $14::json[]
    ) WITH ORDINALITY AS g(
        id, arguments, queue, kind, priority, max_attempts, deadline, deadline_in,
        timeout, backoff, unique_key, run_id, fingerprint, meta, ord
    )
    ORDER BY g.ord
    ON CONFLICT (id) DO NOTHING
    RETURNING id, queue, kind, priority, deadline, unique_key IS NOT NULL AS keyed,
        pg_catalog.octet_length(pg_catalog.json_send(arguments)) AS size
), now AS (
    INSERT INTO jobq.ready (id, position, since, deadline, size, rank, priority, attempt, flags, keyed, queue, kind)
    SELECT made.id, pg_catalog.nextval('jobq.position'), (SELECT now FROM moment), made.deadline, made.size,
        made.priority, made.priority, 0, 0, made.keyed, made.queue, made.kind
    FROM made
)
SELECT CASE WHEN count(*) < pg_catalog.cardinality($1) THEN pg_catalog.array_agg(id) END, count(*) FROM made
