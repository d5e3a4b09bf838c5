matching AS MATERIALIZED (
    SELECT f.id
    FROM (SELECT found.* FROM found ORDER BY found.id DESC) f
    WHERE ($6::uuid IS NULL OR f.worker = $6)
        AND ($7::text IS NULL OR f.error_type = $7)
        AND ($8::text IS NULL OR strpos(lower(f.error_message), lower($8)) > 0)
        AND (($4 IS NULL AND $5 IS NULL) OR EXISTS (
            SELECT FROM jobq.job j
            WHERE j.id = f.id AND ($4 IS NULL OR j.created_at >= $4) AND ($5 IS NULL OR j.created_at < $5)
        ))
        AND ($10::text IS NULL OR EXISTS (
            SELECT FROM jobq.job j WHERE j.id = f.id AND strpos(j.meta::text, $10) > 0
        ))
    LIMIT $3::bigint
)
