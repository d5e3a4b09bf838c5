UPDATE jobq_life
SET state = 4, lease = ?, worker = ?, started_at = ?, attempt = min(attempt + 1, 32767), settled = NULL, reason = NULL,
    percent = NULL, message = NULL, details = NULL
WHERE n = ?
