UPDATE jobq_life SET attempt = max(attempt - 1, 0) WHERE n = ?
