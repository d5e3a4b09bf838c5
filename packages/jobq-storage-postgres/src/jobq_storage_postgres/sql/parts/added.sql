(
                t.id BETWEEN (SELECT inner_low FROM span) AND (SELECT inner_high FROM span)
                OR EXISTS (
                    SELECT FROM jobq.job j
                    WHERE j.id = t.id AND ($5 IS NULL OR j.created_at >= $5) AND ($6 IS NULL OR j.created_at < $6)
                )
            )
