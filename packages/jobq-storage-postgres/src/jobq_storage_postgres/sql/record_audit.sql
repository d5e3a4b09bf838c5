-- Keep entries of the audit that are not there. $1 ids, $2 actors, $3 actions, $4 targets, $5 details.
INSERT INTO jobq.audit (id, at, actor, action, target, details)
SELECT g.id, jobq.clock(), g.actor, g.action, g.target, g.details
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::json[]) AS g(id, actor, action, target, details)
ORDER BY g.id
ON CONFLICT (id) DO NOTHING
