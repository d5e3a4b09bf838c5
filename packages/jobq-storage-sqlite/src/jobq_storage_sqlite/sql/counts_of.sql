-- One part per index of states; none of them reads the table.
SELECT queue, 3, count(*) FROM jobq_life WHERE state = 3 AND queue = :queue GROUP BY queue
UNION ALL
SELECT queue, state, count(*) FROM jobq_life WHERE state < 2 AND queue = :queue GROUP BY queue, state
UNION ALL
SELECT queue, 2, count(*) FROM jobq_life WHERE state = 2 AND queue = :queue GROUP BY queue
UNION ALL
SELECT queue, 4, count(*) FROM jobq_life WHERE state = 4 AND queue = :queue GROUP BY queue
UNION ALL
SELECT queue, state, count(*) FROM jobq_life WHERE state > 4 AND queue = :queue GROUP BY queue, state
