-- Read the statistics of steps: those that are summed up, and what is still in `tally`, as rows that add up. Answers
-- with a JSON array of [start, queue, kind, state, number of jobs, seconds waited, seconds run, histogram of the
-- seconds waited, of those run]; thousands of such rows are read in less time than rows of columns.
-- $1 queue, $2 first start (NULL: an hour ago), $3 start to end before (NULL: now), $4 step in seconds; $1 may be NULL.
WITH {unsummed}
SELECT coalesce(json_agg(json_build_array(
    a.start, a.queue, a.kind, a.state, a.jobs, a.waited, a.ran, a.waiting, a.running
)), '[]')
FROM (
    SELECT s.start, s.queue, s.kind, s.state, s.jobs, s.waited, s.ran, s.waiting, s.running
    FROM jobq.statistic s
    WHERE s.step = $4 AND s.start >= (SELECT since FROM span) AND s.start < (SELECT until FROM span)
        AND s.queue <> '' AND ($1 IS NULL OR s.queue = $1)
    UNION ALL
    SELECT * FROM unsummed
) a
