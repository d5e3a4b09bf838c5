-- A jump from each queue to the next: as many steps as there are queues, however many jobs finished.
WITH RECURSIVE found (queue) AS (
    SELECT min(queue) FROM jobq_life WHERE state > 4
    UNION ALL
    SELECT (SELECT min(life.queue) FROM jobq_life AS life WHERE life.state > 4 AND life.queue > found.queue)
    FROM found
    WHERE found.queue IS NOT NULL
)
SELECT queue FROM found WHERE queue IS NOT NULL
