-- Count the rows of the tally up to a limit. $1 limit.
SELECT count(*) FROM (SELECT FROM jobq.tally LIMIT $1::bigint) t
