-- `add_one` for a job with a unique key that is free. Answers no row if the key has a holder; fails if a transaction that
-- is open for a tenth of a second holds it, and if the job is stored already. In each case nothing is added, and the
-- statements of `unique_keys.py` find out more.
-- $1..$14 as in `add_one`, $15 unique key.
WITH taken AS (
    INSERT INTO jobq.unique_key (queue, key, job)
    SELECT $2::text, $15::text, $1::uuid WHERE set_config('lock_timeout', '100ms', true) IS NOT NULL
    ON CONFLICT (queue, key) DO NOTHING
    RETURNING job
), made AS (
    INSERT INTO jobq.job (
        id, created_at, deadline, timeout, priority, max_attempts, queue, kind, arguments, meta, backoff, unique_key,
        run_id, tags, fingerprint
    )
    SELECT job, jobq.clock(), $12::timestamptz, $7::float8, $5::smallint, $6::smallint, $2, $3::text, $4::json,
        $14::json, $8::json, $15, $9::text, $10::text[], $11::bytea
    FROM taken
), now AS (
    INSERT INTO jobq.ready (id, position, since, deadline, size, rank, priority, attempt, flags, keyed, queue, kind)
    SELECT job, nextval('jobq.position'), jobq.clock(), $12, $13::integer, $5, $5, 0, 0, true, $2, $3
    FROM taken
)
SELECT job FROM taken
