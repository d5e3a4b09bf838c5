-- Give back unique keys that were taken for jobs which turned out to be there already. $1 job ids.
DELETE FROM jobq.unique_key WHERE job = ANY($1::uuid[])
RETURNING job
