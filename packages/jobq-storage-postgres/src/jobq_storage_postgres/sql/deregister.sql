-- Remove a worker. $1 id.
DELETE FROM jobq.worker WHERE id = $1::uuid
