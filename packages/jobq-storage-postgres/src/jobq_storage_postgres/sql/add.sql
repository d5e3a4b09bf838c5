-- Add jobs, each with its row in `ready` or `waiting`. Answers which were new (NULL if all were), and how many.
--
-- $1 ids, $2 arguments; then columns with one value per job, or NULL for the whole column if no job has a value: $3
-- queues, $4 kinds, $5 priorities, $6 max_attempts (these four default to $17..$20), $7 run_at, $8 seconds until
-- run_at, $9 deadline, $10 seconds until the deadline, $11 timeout, $12 backoff, $13 unique keys, $14 run ids, $15 tags
-- (each the text of an array), $16 fingerprints.
--
-- The rows in `ready` and `waiting` come from the inserted jobs. So the transaction has its number before it draws a
-- position (see watermarks.py), and a job that was stored already gets no second row.
WITH moment AS MATERIALIZED (
    SELECT jobq.clock() AS now
), made AS (
    INSERT INTO jobq.job (
        id, created_at, run_at, deadline, timeout, priority, max_attempts, queue, kind, arguments, backoff, unique_key,
        run_id, tags, fingerprint
    )
    SELECT g.id, moment.now, coalesce(g.run_at, moment.now + make_interval(secs => g.run_in)),
        coalesce(g.deadline, moment.now + make_interval(secs => g.deadline_in)), g.timeout,
        coalesce(g.priority, $19::smallint), coalesce(g.max_attempts, $20::smallint),
        coalesce(g.queue, $17::text), coalesce(g.kind, $18::text), g.arguments, g.backoff, g.unique_key, g.run_id,
        g.tags::text[], g.fingerprint
    FROM moment CROSS JOIN unnest(
        $1::uuid[], $2::json[], $3::text[], $4::text[], $5::smallint[], $6::smallint[], $7::timestamptz[],
        $8::float8[], $9::timestamptz[], $10::float8[], $11::float8[], $12::json[], $13::text[], $14::text[],
        $15::text[], $16::bytea[]
    ) WITH ORDINALITY AS g(
        id, arguments, queue, kind, priority, max_attempts, run_at, run_in,
        deadline, deadline_in, timeout, backoff, unique_key, run_id, tags, fingerprint, ord
    )
    ORDER BY g.ord
    ON CONFLICT (id) DO NOTHING
    RETURNING id, queue, priority, run_at, unique_key IS NOT NULL AS keyed
), later AS (
    INSERT INTO jobq.waiting (id, position, run_at, priority, attempt, keyed, state, queue, reason)
    SELECT made.id, nextval('jobq.position'), made.run_at, made.priority, 0, made.keyed, 'scheduled', made.queue,
        'delayed'
    FROM made, moment
    WHERE made.run_at > moment.now
), now AS (
    INSERT INTO jobq.ready (id, position, run_at, priority, attempt, keyed, queue)
    SELECT made.id, nextval('jobq.position'), made.run_at, made.priority, 0, made.keyed, made.queue
    FROM made, moment
    WHERE made.run_at IS NULL OR made.run_at <= moment.now
)
SELECT CASE WHEN count(*) < cardinality($1) THEN array_agg(id) END, count(*) FROM made
