UPDATE jobq_life SET state = 3, position = ?, reason = NULL, error_lease = NULL WHERE n = ?
