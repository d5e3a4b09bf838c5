{matching}, looked AS MATERIALIZED (
    SELECT CASE WHEN r.low IS NULL THEN f.jobs ELSE greatest(f.jobs, $2) END AS jobs,
        CASE WHEN r.low IS NULL OR f.jobs >= $2 THEN f.last ELSE r.low END AS last,
        (SELECT count(*) FROM matching) AS matching
    FROM (SELECT (SELECT count(*) FROM found) AS jobs, (SELECT id FROM found ORDER BY id LIMIT 1) AS last) f
    LEFT JOIN reach r ON true
)
SELECT l.jobs, l.last, l.matching, p.*
FROM looked l
LEFT JOIN (
    SELECT {summary}, NULL::json, NULL::json
    FROM matching m
    CROSS JOIN LATERAL (SELECT j.* FROM jobq.job j WHERE j.id = m.id LIMIT 1) j
    CROSS JOIN LATERAL (SELECT s.* FROM jobq.job_state s WHERE s.id = m.id LIMIT 1) s
    WHERE $9::text = 'jobs'
    UNION ALL
    SELECT a.id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, a.arguments, a.meta
    FROM (
        SELECT m.id, j.arguments,
            -- Which of them are secrets; nothing else of `meta` is asked for.
            CASE WHEN strpos(j.meta::text, '"jobq:secrets"') > 0 THEN j.meta END AS meta,
            row_number() OVER newest AS number, sum(pg_column_size(j.arguments)) OVER newest AS size
        FROM matching m
        CROSS JOIN LATERAL (SELECT j.* FROM jobq.job j WHERE j.id = m.id LIMIT 1) j
        WHERE $9 = 'arguments'
        WINDOW newest AS (ORDER BY m.id DESC ROWS UNBOUNDED PRECEDING)
    ) a
    WHERE a.size <= 8 * 1024 * 1024 OR a.number = 1
) p ON true
ORDER BY p.id DESC
