-- Register a worker, or renew its registration.
-- $1 id, $2 name, $3 host, $4 pid, $5 queues, $6 kinds, $7 concurrency, $8 lost_after in seconds,
-- $9 versions.
INSERT INTO jobq.worker AS w (
    id, started_at, beat_at, expires_at, name, host, pid, queues, kinds, concurrency, lost_after, versions
)
SELECT $1::uuid, m.now, m.now, m.now + make_interval(secs => $8::float8), $2::text, $3::text, $4::integer, $5::text[],
    $6::text[], $7::integer, $8::float8, $9::json
FROM (SELECT jobq.clock() AS now) m
ON CONFLICT (id) DO UPDATE SET
    beat_at = excluded.beat_at, expires_at = excluded.expires_at, name = excluded.name, host = excluded.host,
    pid = excluded.pid, queues = excluded.queues, kinds = excluded.kinds, concurrency = excluded.concurrency,
    lost_after = excluded.lost_after, versions = excluded.versions
