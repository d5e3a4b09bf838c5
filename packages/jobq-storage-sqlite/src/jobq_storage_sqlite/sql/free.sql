UPDATE jobq_life SET state = 3, position = ?2, reason = NULL, request = NULL WHERE n = ?1
