UPDATE jobq_life SET state = 3, position = ?2, reason = NULL, error_lease = NULL WHERE n = ?1
