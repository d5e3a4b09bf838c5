SELECT n.queue, n.state
FROM pairs p
CROSS JOIN LATERAL (
    SELECT w.queue, w.state FROM jobq.waiting w
    WHERE (w.queue, w.state) > (p.queue, p.state)
    ORDER BY w.queue, w.state
    LIMIT 1
) n
