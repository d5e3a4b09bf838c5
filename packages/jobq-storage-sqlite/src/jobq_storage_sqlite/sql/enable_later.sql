UPDATE jobq_life SET state = 0, reason = 'delayed', error_lease = NULL WHERE n = ?
