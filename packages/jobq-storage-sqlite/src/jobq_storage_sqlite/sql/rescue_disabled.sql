UPDATE jobq_life SET state = 2, reason = 'disabled', request = NULL WHERE n = ?
