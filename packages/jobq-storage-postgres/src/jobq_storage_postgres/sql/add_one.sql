-- `add` for the most common case: one job without flags that may run at once and has no unique key. Fails if the job is
-- stored already: ON CONFLICT would take a fifth of the time of a lone add, and RETURNING on a partitioned table a
-- twentieth. Instead, the WHERE condition ensures that the transaction has its number before it draws a position (see
-- `add`).
-- $1 id, $2 queue, $3 kind, $4 arguments, $5 priority, $6 max_attempts, $7 timeout, $8 backoff, $9 run id, $10 tags,
-- $11 fingerprint, $12 deadline, $13 seconds until the deadline, $14 size of the arguments, $15 meta.
WITH moment AS MATERIALIZED (
    SELECT jobq.clock() AS now
), made AS (
    INSERT INTO jobq.job (
        id, created_at, deadline, timeout, priority, max_attempts, queue, kind, arguments, meta, backoff, run_id, tags,
        fingerprint
    )
    SELECT $1::uuid, now, coalesce($12::timestamptz, now + make_interval(secs => $13::float8)), $7::float8,
        $5::smallint, $6::smallint, $2::text, $3::text, $4::json, $15::json, $8::json, $9::text, $10::text[], $11::bytea
    FROM moment
)
INSERT INTO jobq.ready (id, position, since, deadline, size, rank, priority, attempt, flags, keyed, queue, kind)
SELECT $1, nextval('jobq.position'), now, coalesce($12, now + make_interval(secs => $13)), $14::integer, $5, $5, 0, 0,
    false, $2, $3
FROM moment
WHERE pg_current_xact_id() IS NOT NULL
