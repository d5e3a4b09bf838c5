-- Read the last parts of the logs of a job, newest first. $1 job id; $2 attempt; $3 lease and $4 part to end behind, $5
-- lease and $6 part to begin before; $7 limit. $2 to $6 may be NULL.
-- Of a job that was deleted while its lines were written, rows may be left until their partition is dropped.
SELECT l.lease, l.part, l.attempt, l.at, l.lines
FROM jobq.job_log l
WHERE l.job = $1::uuid
    AND EXISTS (SELECT FROM jobq.job j WHERE j.id = $1::uuid)
    AND (l.lease, l.part) > (coalesce($3::bigint, -1), coalesce($4::integer, 0))
    AND (l.lease, l.part) < (coalesce($5::bigint, 9223372036854775807), coalesce($6::integer, 0))
    AND ($2::integer IS NULL OR l.attempt = $2)
ORDER BY l.lease DESC, l.part DESC
LIMIT $7::bigint
