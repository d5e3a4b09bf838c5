-- Count the PENDING jobs of the queue that are claimed before a PENDING job; no row if it is not PENDING. $1 job id, $2
-- limit.
SELECT count(a.one)
FROM (SELECT r.queue, r.rank, r.position FROM jobq.ready r WHERE r.id = $1::uuid) job
LEFT JOIN LATERAL (
    (SELECT 1 AS one FROM jobq.ready r WHERE r.queue = job.queue AND r.rank > job.rank LIMIT $2::bigint)
    UNION ALL
    (SELECT 1 FROM jobq.ready r
    WHERE r.queue = job.queue AND r.rank = job.rank AND r.position < job.position
    LIMIT $2)
) a ON true
GROUP BY job.queue
