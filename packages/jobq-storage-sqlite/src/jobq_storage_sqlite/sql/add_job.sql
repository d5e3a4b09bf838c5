INSERT INTO jobq_job
    (n, id, kind, arguments, created_at, deadline, timeout, max_attempts, backoff, run_id, tags, fingerprint)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING
