-- Count the SCHEDULED jobs that have been due for longer than $1 seconds, up to $2, by the index of promotions.
SELECT count(*)
FROM (
    SELECT FROM jobq.waiting
    WHERE state <> 'disabled' AND state = 'scheduled'
        AND run_at < jobq.clock() - pg_catalog.make_interval(secs => $1::float8)
    LIMIT $2::bigint
) overdue
