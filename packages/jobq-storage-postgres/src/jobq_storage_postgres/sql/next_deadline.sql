-- Return in how many seconds the next deadline passes of a job that waits or is PENDING (NULL: there is none), and the
-- storage's clock. $1 the deadline to begin at.
SELECT least((
    SELECT CASE
        WHEN isfinite(w.deadline) THEN greatest(extract(epoch FROM w.deadline - jobq.clock()), 0)::float8
        WHEN w.deadline < 'infinity' THEN 0
    END
    FROM jobq.waiting w
    WHERE w.deadline IS NOT NULL AND w.state <> 'disabled' AND w.deadline >= $1::timestamptz
    ORDER BY w.deadline
    LIMIT 1
), (
    SELECT CASE
        WHEN isfinite(r.deadline) THEN greatest(extract(epoch FROM r.deadline - jobq.clock()), 0)::float8
        WHEN r.deadline < 'infinity' THEN 0
    END
    FROM jobq.ready r
    WHERE r.deadline IS NOT NULL AND r.deadline >= $1
    ORDER BY r.deadline
    LIMIT 1
)), jobq.clock()
