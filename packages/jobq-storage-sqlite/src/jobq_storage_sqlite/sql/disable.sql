UPDATE jobq_life SET state = 2, reason = 'disabled' WHERE n = ?
