SELECT id, 'processing', 'processing', false, queue FROM jobq.running WHERE id = ANY($1::uuid[])
UNION ALL
SELECT id, state, state, false, queue FROM jobq.outcome WHERE id = ANY($1::uuid[])
UNION ALL
SELECT g.id, NULL, NULL, false, NULL
FROM unnest($1::uuid[]) AS g(id)
WHERE NOT EXISTS (SELECT FROM jobq.job j WHERE j.id = g.id)
