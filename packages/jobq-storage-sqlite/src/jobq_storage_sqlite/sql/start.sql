UPDATE jobq_life
SET state = 4, lease = ?2, worker = ?3, started_at = ?4, attempt = attempt + 1, settled = NULL, reason = NULL,
    percent = NULL, message = NULL, details = NULL
WHERE n = ?1
