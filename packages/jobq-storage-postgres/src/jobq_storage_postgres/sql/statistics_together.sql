-- Read the statistics of steps, queues and kinds together; those of one queue are summed up here. Answers with a JSON
-- array of [start, state, number of jobs, seconds waited, seconds run, histograms of the seconds waited, of those run]:
-- to add up histograms would take the server longer than the reader. Parameters as of `statistics`.
WITH {unsummed}
SELECT coalesce(json_agg(json_build_array(
    a.start, a.state, a.jobs, a.waited, a.ran, a.waiting, a.running
)), '[]')
FROM (
    SELECT start, state, sum(jobs)::bigint AS jobs, sum(waited) AS waited, sum(ran) AS ran,
        json_agg(waiting) AS waiting, json_agg(running) AS running
    FROM (
        SELECT s.start, s.state, s.jobs, s.waited, s.ran, s.waiting, s.running
        FROM jobq.statistic s
        WHERE s.step = $4 AND s.start >= (SELECT since FROM span) AND s.start < (SELECT until FROM span)
            AND s.queue = '' AND $1 IS NULL
        UNION ALL
        SELECT s.start, s.state, s.jobs, s.waited, s.ran, s.waiting, s.running
        FROM jobq.statistic s
        WHERE s.step = $4 AND s.start >= (SELECT since FROM span) AND s.start < (SELECT until FROM span)
            AND s.queue = $1
        UNION ALL
        SELECT u.start, u.state, u.jobs, u.waited, u.ran, u.waiting, u.running FROM unsummed u
    ) s
    GROUP BY start, state
    ORDER BY start, state
) a
