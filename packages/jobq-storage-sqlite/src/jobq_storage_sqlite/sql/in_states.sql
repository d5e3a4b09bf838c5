-- How many jobs are in these states, none of them COMPLETED; counts no further than :limit.
SELECT count(*)
FROM (
    SELECT n FROM jobq_life WHERE state < 2 AND state IN (SELECT value FROM json_each(:states))
    UNION ALL
    SELECT n FROM jobq_life WHERE state = 2 AND 2 IN (SELECT value FROM json_each(:states))
    UNION ALL
    SELECT n FROM jobq_life WHERE state = 3 AND 3 IN (SELECT value FROM json_each(:states))
    UNION ALL
    SELECT n FROM jobq_life WHERE state = 4 AND 4 IN (SELECT value FROM json_each(:states))
    UNION ALL
    SELECT n FROM jobq_life WHERE state > 4 AND state <> 5 AND state IN (SELECT value FROM json_each(:states))
    LIMIT :limit
)
