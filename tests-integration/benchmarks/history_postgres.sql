-- Finished jobs as jobq leaves them, $jobs of them, spread evenly over the last twelve hours (less on a
-- Monday morning: of this week), so that none is old enough to be deleted. Written by the server in
-- one go, because running ten million no-op jobs would take minutes and leave the very same rows.
WITH bounds AS MATERIALIZED (
    SELECT greatest(
        extract(epoch FROM date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'),
        extract(epoch FROM now() - interval '12 hours')
    ) * 1000 AS low,
        extract(epoch FROM now()) * 1000 AS high
), past AS MATERIALIZED (
    SELECT n, to_timestamp(at / 1000) AS at,
        (lpad(to_hex(at::bigint), 12, '0') || '7' || lpad(to_hex(n %% 4096), 3, '0') || '8' || substr(md5(n::text), 1, 15))::uuid AS id
    FROM generate_series(1, %(jobs)s) AS n, bounds,
        LATERAL (SELECT low + (high - low) * n / %(jobs)s AS at) moment
), asked AS (
    INSERT INTO jobq.job (id, created_at, priority, max_attempts, queue, kind, arguments)
    SELECT id, at, 0, 10, 'bench', 'contestants.nothing', json_build_object('n', n, 'text', '') FROM past
), ended AS (
    INSERT INTO jobq.outcome (
        id, finished_at, started_at, lease, worker, attempt, flags, state, queue, kind, settled, result
    )
    SELECT id, at, at, n, '00000000-0000-7000-8000-000000000000', 1, 0, 'completed', 'bench', 'contestants.nothing',
        'completed', 'null'
    FROM past
)
INSERT INTO jobq.tally (finished, queue, kind, state) SELECT count(*), 'bench', 'contestants.nothing', 'completed' FROM past
