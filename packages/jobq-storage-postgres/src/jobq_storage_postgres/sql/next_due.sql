-- Return in how many seconds the next job is due (NULL: no job waits for a time), and the storage's clock.
-- $1 the run_at to begin at.
SELECT (
    SELECT CASE
        WHEN isfinite(w.run_at) THEN greatest(extract(epoch FROM w.run_at - jobq.clock()), 0)::float8
        WHEN w.run_at < 'infinity' THEN 0
    END
    FROM jobq.waiting w
    WHERE w.state <> 'disabled' AND w.run_at >= $1::timestamptz
    ORDER BY w.run_at
    LIMIT 1
), jobq.clock()
