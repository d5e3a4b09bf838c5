UPDATE jobq_life
SET state = 3, position = ?, attempt = 0, finished_at = NULL, error_lease = NULL, reason = NULL, percent = NULL,
    message = NULL, details = NULL
WHERE n = ?
