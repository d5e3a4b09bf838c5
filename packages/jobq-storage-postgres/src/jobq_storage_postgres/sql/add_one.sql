-- `add` for the most common case: one job without flags that may run at once and has no unique key. Fails if the job is
-- stored already: ON CONFLICT would take a fifth of the time of a lone add, and RETURNING on a partitioned table a
-- twentieth. Instead, the WHERE condition ensures that the transaction has its number before it draws a position (see
-- `add`).
-- $1 id, $2 queue, $3 kind, $4 arguments, $5 priority, $6 max_attempts, $7 timeout, $8 backoff, $9 run id, $10 tags,
-- $11 fingerprint, $12 deadline, $13 size of the arguments, $14 meta.
WITH made AS (
    INSERT INTO jobq.job (
        id, created_at, deadline, timeout, priority, max_attempts, queue, kind, arguments, meta, backoff, run_id, tags,
        fingerprint
    )
    VALUES (
        $1::uuid, jobq.clock(), $12::timestamptz, $7::float8, $5::smallint, $6::smallint, $2::text, $3::text, $4::json,
        $14::json, $8::json, $9::text, $10::text[], $11::bytea
    )
)
INSERT INTO jobq.ready (id, position, since, deadline, size, rank, priority, attempt, flags, keyed, queue, kind)
SELECT $1, nextval('jobq.position'), jobq.clock(), $12, $13::integer, $5, $5, 0, 0, false, $2, $3
WHERE pg_current_xact_id() IS NOT NULL
