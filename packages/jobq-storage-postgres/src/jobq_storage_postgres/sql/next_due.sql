-- In how many seconds the next job is due; NULL if none waits for a time.
SELECT greatest(extract(epoch FROM w.run_at - jobq.clock()), 0)::float8
FROM (SELECT run_at FROM jobq.waiting WHERE state <> 'disabled' AND run_at IS NOT NULL ORDER BY run_at LIMIT 1) w
