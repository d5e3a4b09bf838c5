-- Lock a run that is about to complete in a transaction of its handler, which makes another transaction's settlement
-- wait or come back. No row: its lease is over. $1 job id, $2 lease.
SELECT r.id FROM jobq.running r WHERE r.id = $1::uuid AND r.lease = $2::bigint FOR UPDATE
