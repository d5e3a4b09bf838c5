-- Give up the lease on maintenance. $1 worker.
UPDATE jobq.maintenance SET worker = NULL, expires_at = NULL WHERE worker = $1::uuid
