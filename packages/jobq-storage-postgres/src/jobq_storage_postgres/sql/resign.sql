-- Give the lease on maintenance up. $1 worker.
UPDATE jobq.maintenance SET worker = NULL, expires_at = NULL WHERE worker = $1::uuid
