UPDATE jobq_life SET state = 3, position = ?, reason = NULL, request = NULL WHERE n = ?
