-- Store how long queues keep finished jobs. $1 queues; seconds for $2 completed, $3 failed and $4 aborted jobs.
INSERT INTO jobq.queue (name, has_retention, completed, failed, aborted)
SELECT g.name, true, g.completed, g.failed, g.aborted
FROM unnest($1::text[], $2::float8[], $3::float8[], $4::float8[]) AS g(name, completed, failed, aborted)
ORDER BY g.name
ON CONFLICT (name) DO UPDATE SET
    has_retention = true, completed = excluded.completed, failed = excluded.failed, aborted = excluded.aborted
