-- Forget the depths of steps that are kept no longer. $1 steps in seconds, $2 how many seconds each is kept.
DELETE FROM jobq.depth_point
WHERE (step, start) = ANY(ARRAY(
    SELECT (d.step, d.start)
    FROM unnest($1::integer[], $2::integer[]) AS s(step, kept)
    CROSS JOIN LATERAL (
        SELECT d.step, d.start FROM jobq.depth_point d
        WHERE d.step = s.step AND d.start <= jobq.clock() - make_interval(secs => s.kept)
    ) d
))
