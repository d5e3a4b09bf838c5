-- Release unique keys that were just taken for jobs which have been added and finished meanwhile. $1 job ids.
DELETE FROM jobq.unique_key k
WHERE k.job = ANY($1::uuid[]) AND k.until IS NULL AND EXISTS (SELECT FROM jobq.outcome o WHERE o.id = k.job)
RETURNING k.job
