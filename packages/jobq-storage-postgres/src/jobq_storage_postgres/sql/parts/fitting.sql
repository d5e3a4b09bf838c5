(
        SELECT greatest(count(*) FILTER (WHERE s.total <= $7), 1)
        FROM (SELECT sum(size) OVER (ROWS UNBOUNDED PRECEDING) AS total FROM locked) s
    )
