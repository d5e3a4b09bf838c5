-- Take unique keys for new jobs; see the function. $1 queues, $2 keys, $3 job ids, each sorted by queue and key; $4 ids of
-- all jobs that are to be added.
SELECT queue, key, job, taken, holder, application, open_for
FROM jobq.claim_keys($1::text[], $2::text[], $3::uuid[], $4::uuid[])
