-- Return the jobs that a worker holds under other leases than these. $1 worker, $2 leases.
SELECT r.id, r.lease, r.queue, j.kind, j.arguments, r.attempt, j.max_attempts, r.priority, j.timeout,
    CASE
        WHEN isfinite(j.deadline) THEN extract(epoch FROM j.deadline - jobq.clock())::float8
        WHEN j.deadline < 'infinity' THEN 0
    END,
    j.backoff, j.run_id, j.tags, j.meta
FROM jobq.running r
CROSS JOIN LATERAL (SELECT j.* FROM jobq.job j WHERE j.id = r.id LIMIT 1) j
WHERE r.worker = $1::uuid AND NOT EXISTS (SELECT FROM unnest($2::bigint[]) AS known(lease) WHERE known.lease = r.lease)
ORDER BY r.lease
