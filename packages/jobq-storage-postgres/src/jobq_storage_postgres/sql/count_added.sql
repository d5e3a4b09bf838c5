-- Count jobs by the time of adding, and by queue, kind and state, up to a limit. The time in an id is that at which it
-- was made, not that of adding: of the jobs nearest to the two moments it is looked up, 1,000 on either side of each.
-- NULL if more unfinished jobs would have to be read to find those of some kinds, for which there is no index, than may
-- be.
-- $1 queue, $2 kinds, $3 states, $4 limit, $5 added from when on, $6 added before when, $7 how many may be read; $1 to
-- $3, $5 and $6 may be NULL.
WITH span AS MATERIALIZED (
    SELECT
        coalesce((
            SELECT j.id FROM jobq.job j
            WHERE $5::timestamptz IS NOT NULL AND j.id < jobq.first_id_at($5)
            ORDER BY j.id DESC
            OFFSET 1000
            LIMIT 1
        ), '00000000-0000-0000-0000-000000000000') AS low,
        coalesce((
            SELECT j.id FROM jobq.job j
            WHERE $5::timestamptz IS NOT NULL AND j.id >= jobq.first_id_at($5)
            ORDER BY j.id
            OFFSET 1000
            LIMIT 1
        ), CASE
            WHEN $5 IS NULL THEN '00000000-0000-0000-0000-000000000000'::uuid
            ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'
        END) AS inner_low,
        coalesce((
            SELECT j.id FROM jobq.job j
            WHERE $6::timestamptz IS NOT NULL AND j.id < jobq.first_id_at($6)
            ORDER BY j.id DESC
            OFFSET 1000
            LIMIT 1
        ), CASE
            WHEN $6 IS NULL THEN 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid
            ELSE '00000000-0000-0000-0000-000000000000'
        END) AS inner_high,
        coalesce((
            SELECT j.id FROM jobq.job j
            WHERE $6::timestamptz IS NOT NULL AND j.id >= jobq.first_id_at($6)
            ORDER BY j.id
            OFFSET 1000
            LIMIT 1
        ), 'ffffffff-ffff-ffff-ffff-ffffffffffff') AS high
), lines AS MATERIALIZED (
    SELECT t.queue, t.kind, t.state
    FROM jobq.tally t
    WHERE ($1::text IS NULL OR t.queue = $1) AND ($2::text[] IS NULL OR t.kind = ANY($2))
        AND ($3::text[] IS NULL OR t.state = ANY($3))
    GROUP BY t.queue, t.kind, t.state
), given AS MATERIALIZED (
    -- Whether there is any condition but time, and whether all jobs have the index of failed and aborted ones.
    SELECT $1 IS NOT NULL OR $2 IS NOT NULL OR $3 IS NOT NULL AS narrowed,
        $1 IS NULL AND $2 IS NULL AND coalesce($3 <@ ARRAY['failed', 'aborted'], false) AS trouble
), read AS MATERIALIZED (
    SELECT count(*) > $7 AS too_many
    FROM (
        SELECT FROM (
            SELECT t.id FROM jobq.waiting t
            WHERE $2 IS NOT NULL AND t.id >= (SELECT low FROM span) AND t.id <= (SELECT high FROM span)
            UNION ALL
            SELECT t.id FROM jobq.ready t
            WHERE $2 IS NOT NULL AND t.id >= (SELECT low FROM span) AND t.id <= (SELECT high FROM span)
        ) t
        LIMIT $7::bigint + 1
    ) t
)
SELECT CASE WHEN NOT (SELECT too_many FROM read) THEN count(*) END
FROM (
    SELECT FROM (
        SELECT t.id
        FROM jobq.job t
        WHERE (SELECT NOT narrowed FROM given)
            AND t.id >= (SELECT low FROM span) AND t.id <= (SELECT high FROM span) AND {added}
        UNION ALL
        SELECT t.id
        FROM unnest($3) AS s(state)
        CROSS JOIN LATERAL (
            SELECT o.id FROM jobq.outcome o
            WHERE (o.state, o.id) <= (s.state, (SELECT high FROM span))
                AND (o.state, o.id) >= (s.state, (SELECT low FROM span))
                AND o.state <> 'completed'
            ORDER BY o.state DESC, o.id DESC
            LIMIT $4::bigint
        ) t
        WHERE (SELECT trouble FROM given) AND {added}
        UNION ALL
        SELECT t.id
        FROM lines l
        CROSS JOIN LATERAL (
            -- Compared as rows, as in `find_line`.
            SELECT o.id FROM jobq.outcome o
            WHERE (hashtext(o.queue) # hashtext(o.kind || o.state), o.id)
                    <= (hashtext(l.queue) # hashtext(l.kind || l.state), (SELECT high FROM span))
                AND (hashtext(o.queue) # hashtext(o.kind || o.state), o.id)
                    >= (hashtext(l.queue) # hashtext(l.kind || l.state), (SELECT low FROM span))
                AND o.queue = l.queue AND o.kind = l.kind AND o.state = l.state
        ) t
        WHERE (SELECT narrowed AND NOT trouble FROM given) AND {added}
        UNION ALL
        SELECT t.id
        FROM jobq.waiting t
        WHERE (SELECT narrowed AND NOT trouble FROM given)
            AND t.id >= (SELECT low FROM span) AND t.id <= (SELECT high FROM span)
            AND ($1 IS NULL OR t.queue = $1) AND ($2 IS NULL OR t.kind = ANY($2)) AND ($3 IS NULL OR t.state = ANY($3))
            AND {added}
        UNION ALL
        SELECT t.id
        FROM jobq.ready t
        WHERE (SELECT narrowed AND NOT trouble FROM given) AND ($3 IS NULL OR 'pending' = ANY($3))
            AND t.id >= (SELECT low FROM span) AND t.id <= (SELECT high FROM span)
            AND ($1 IS NULL OR t.queue = $1) AND ($2 IS NULL OR t.kind = ANY($2)) AND {added}
        UNION ALL
        SELECT t.id
        FROM jobq.running t
        WHERE (SELECT narrowed AND NOT trouble FROM given) AND ($3 IS NULL OR 'processing' = ANY($3))
            AND t.id >= (SELECT low FROM span) AND t.id <= (SELECT high FROM span)
            AND ($1 IS NULL OR t.queue = $1) AND ($2 IS NULL OR t.kind = ANY($2)) AND {added}
    ) u
    LIMIT CASE WHEN (SELECT too_many FROM read) THEN 0 ELSE $4::bigint END
) c
