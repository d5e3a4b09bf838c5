-- List the unfinished jobs of a run. $1 run id.
SELECT j.id
FROM jobq.job j
WHERE j.run_id = $1::text AND NOT EXISTS (SELECT FROM jobq.outcome o WHERE o.id = j.id)
ORDER BY j.id
