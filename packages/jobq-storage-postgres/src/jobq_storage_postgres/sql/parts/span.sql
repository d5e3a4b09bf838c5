span AS MATERIALIZED (
    -- The ids to look at for jobs that were added from $4 on and before $5. The time in an id is that at which it was
    -- made, not that of adding: so 1,000 jobs more are looked at, at either end.
    SELECT least(coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'), (
            SELECT j.id FROM jobq.job j
            WHERE $5::timestamptz IS NOT NULL AND j.id >= jobq.first_id_at($5)
            ORDER BY j.id
            OFFSET 1000
            LIMIT 1
        )) AS high, coalesce((
            SELECT j.id FROM jobq.job j
            WHERE $4::timestamptz IS NOT NULL AND j.id < jobq.first_id_at($4)
            ORDER BY j.id DESC
            OFFSET 1000
            LIMIT 1
        ), '00000000-0000-0000-0000-000000000000') AS low
)
