-- Sum up the counts of finished jobs.
WITH gone AS (
    DELETE FROM jobq.tally RETURNING jobs, queue, state
)
INSERT INTO jobq.tally (jobs, queue, state)
SELECT sum(jobs)::bigint, queue, state FROM gone GROUP BY queue, state HAVING sum(jobs) <> 0
