INSERT INTO jobq_leader (one, worker, uptime, term)
VALUES (1, ?, ?, ?)
ON CONFLICT (one) DO UPDATE
SET worker = excluded.worker, uptime = excluded.uptime, term = excluded.term
WHERE worker = excluded.worker OR abs(excluded.uptime - uptime) >= term
