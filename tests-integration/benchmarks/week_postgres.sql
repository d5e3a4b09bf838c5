-- Jobs as jobq leaves them: those numbered from %(first)s on, %(count)s of them, added evenly from %(low)s to %(high)s
-- (milliseconds since 1970), in 8 queues of 3 kinds each; %(finished)s: whether they have ended, else they wait or run.
-- Written by the server in one go, as running ten million jobs would take hours and leave the same rows.
WITH drawn AS MATERIALIZED (
    SELECT n, %(low)s::float8 + (%(high)s::float8 - %(low)s::float8) * (n - %(first)s) / %(count)s AS ms,
        h %% 8 AS queue, h / 8 %% 3 AS kind, h / 24 %% 1000 AS share,
        ('00000000-0000-7000-8000-' || lpad((h %% 20)::text, 12, '0'))::uuid AS worker
    FROM generate_series(%(first)s::bigint, %(first)s::bigint + %(count)s - 1) AS n,
        LATERAL (SELECT hashint8(n)::bigint & 2147483647 AS h) hash
), made AS MATERIALIZED (
    SELECT n, to_timestamp(ms / 1000) AS at, worker,
        (
            lpad(to_hex(ms::bigint), 12, '0') || '7' || lpad(to_hex(n %% 4096), 3, '0') || '8'
            || substr(md5(n::text), 1, 15)
        )::uuid AS id,
        'queue' || queue AS queue, 'kind' || queue || '.' || kind AS kind,
        CASE WHEN n %% 4 = 0 THEN ARRAY['customer:' || n %% 1000] END AS tags,
        CASE WHEN n %% 10 = 0 THEN 'run' || n / 500 END AS run,
        json_build_object('order_id', n, 'customer', 'c' || n %% 1000, 'note', repeat('x', 80)) AS arguments,
        CASE
            WHEN NOT %(finished)s THEN NULL
            WHEN share < 950 THEN 'completed'
            WHEN share < 990 THEN 'failed'
            ELSE 'aborted'
        END AS ended,
        CASE
            WHEN %(finished)s THEN NULL
            WHEN share < 600 THEN 'pending'
            WHEN share < 900 THEN 'scheduled'
            WHEN share < 950 THEN 'blocked'
            WHEN share < 999 THEN 'disabled'
            ELSE 'processing'
        END AS waits
    FROM drawn
), asked AS (
    INSERT INTO jobq.job (id, created_at, priority, max_attempts, queue, kind, arguments, tags, run_id)
    SELECT id, at, 0, 10, queue, kind, arguments, tags, run FROM made
), tagged AS (
    INSERT INTO jobq.job_tag (id, tag) SELECT id, tags[1] FROM made WHERE tags IS NOT NULL
), failed AS MATERIALIZED (
    SELECT n, (ARRAY['ValueError', 'shop.errors.PaymentError', 'TimeoutError'])[1 + n %% 3] AS type,
        'host ' || n %% 17 || ' did not answer for ' || n || ' ms' AS message,
        repeat(E'  File "/srv/shop/payments.py", line 42, in charge\n', 10) AS traceback
    FROM made
    WHERE ended = 'failed'
), ended AS (
    INSERT INTO jobq.outcome (
        id, finished_at, started_at, lease, worker, attempt, flags, state, queue, kind, settled, reason, result,
        error_type, error_message, error_traceback
    )
    SELECT m.id, m.at + interval '2 seconds', m.at + interval '1 second', m.n, m.worker, 1, 0, m.ended, m.queue, m.kind,
        m.ended, CASE m.ended WHEN 'aborted' THEN 'aborted' END, CASE m.ended WHEN 'completed' THEN 'null'::json END,
        f.type, f.message, f.traceback
    FROM made m
    LEFT JOIN failed f ON f.n = m.n
    WHERE m.ended IS NOT NULL
), tried AS (
    INSERT INTO jobq.attempt (
        job, lease, started_at, finished_at, worker, number, error_type, error_message, error_traceback
    )
    SELECT m.id, m.n, m.at + interval '1 second', m.at + interval '2 seconds', m.worker, 1, f.type, f.message, f.traceback
    FROM made m
    JOIN failed f ON f.n = m.n
), counted AS (
    INSERT INTO jobq.tally (finished, queue, kind, state)
    SELECT count(*), queue, kind, ended FROM made WHERE ended IS NOT NULL GROUP BY queue, kind, ended
), running AS (
    INSERT INTO jobq.running (
        id, lease, started_at, pending_since, worker, size, priority, attempt, flags, keyed, begun, queue, kind
    )
    SELECT id, n, at + interval '1 second', at, worker, 130, 0, 1, 0, false, true, queue, kind
    FROM made
    WHERE waits = 'processing'
), pending AS (
    INSERT INTO jobq.ready (id, position, since, size, rank, priority, attempt, flags, keyed, queue, kind)
    SELECT id, nextval('jobq.position'), at, 130, 0, 0, 0, 0, false, queue, kind
    FROM made
    WHERE waits = 'pending'
)
INSERT INTO jobq.waiting (
    id, position, since, run_at, size, priority, attempt, flags, keyed, state, queue, kind, reason
)
SELECT id, nextval('jobq.position'), at, CASE waits WHEN 'scheduled' THEN now() + n %% 864000 * interval '1 second' END,
    130, 0, 0, 0, false, waits, queue, kind,
    CASE waits WHEN 'scheduled' THEN 'delayed' WHEN 'blocked' THEN 'gated' ELSE 'disabled' END
FROM made
WHERE waits IN ('scheduled', 'blocked', 'disabled')
