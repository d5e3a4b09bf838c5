-- Release unique keys that were taken for jobs which are not added. $1 job ids.
DELETE FROM jobq.unique_key WHERE job = ANY($1::uuid[]) RETURNING job
