-- One part per index, so that the jobs of other queues are not walked over, but for those that wait for a time.
SELECT n, 0 FROM jobq_life WHERE state = 3 AND queue = :queue
UNION ALL
SELECT n, 0 FROM jobq_life WHERE state < 2 AND queue = :queue
UNION ALL
SELECT n, 0 FROM jobq_life WHERE state = 2 AND queue = :queue
UNION ALL
SELECT n, 1 FROM jobq_life WHERE state = 4 AND queue = :queue
UNION ALL
SELECT n, 0 FROM jobq_life WHERE state > 4 AND queue = :queue
