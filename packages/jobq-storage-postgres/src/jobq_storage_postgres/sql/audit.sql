-- Read entries of the audit, newest first: of all, or of one target by an index of its own, which the row comparison
-- and the ORDER BY make the planner use. $1 target, $2 id to begin below, $3 limit; $1 and $2 may be NULL.
SELECT a.id, a.at, a.actor, a.action, a.target, a.details
FROM (
    (SELECT a.* FROM jobq.audit a
    WHERE $1::text IS NULL AND a.id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    ORDER BY a.id DESC
    LIMIT $3::bigint)
    UNION ALL
    (SELECT a.* FROM jobq.audit a
    WHERE (a.target, a.id) < ($1, coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff')) AND a.target >= $1
    ORDER BY a.target DESC, a.id DESC
    LIMIT $3)
) a
ORDER BY a.id DESC
LIMIT $3
