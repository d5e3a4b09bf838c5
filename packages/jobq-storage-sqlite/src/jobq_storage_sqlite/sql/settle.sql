UPDATE jobq_life
SET state = ?2, settled = ?2, position = ?3, attempt = ?4, run_at = ?5, reason = ?6, finished_at = ?7, error_lease = ?8,
    request = NULL
WHERE n = ?1
