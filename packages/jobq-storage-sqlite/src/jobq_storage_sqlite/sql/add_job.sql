INSERT INTO jobq_job
    (n, id, kind, arguments, created_at, deadline, timeout, max_attempts, backoff, run_id, tags, fingerprint)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
ON CONFLICT (id) DO NOTHING
