UPDATE jobq_life SET attempt = attempt - 1 WHERE n = ?
