-- Return in how many seconds the next job is due (NULL: no job waits for a time), the storage's clock, and whether jobs
-- may appear below a position that claims skip.
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
), jobq.clock(), EXISTS (SELECT FROM jobq.skipped)
