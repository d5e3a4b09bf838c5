INSERT INTO jobq_leader (one, worker, expires_at)
VALUES (1, ?, ?)
ON CONFLICT (one) DO UPDATE
SET worker = excluded.worker, expires_at = excluded.expires_at
WHERE worker = excluded.worker OR expires_at <= ?
