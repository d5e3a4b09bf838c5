UPDATE jobq_life
SET state = ?, settled = ?, position = ?, attempt = ?, run_at = ?, reason = ?, finished_at = ?, error_lease = ?,
    request = NULL
WHERE n = ?
