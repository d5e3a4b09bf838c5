UPDATE jobq_life SET state = ?, reason = ?, finished_at = ?, error_lease = ?, request = NULL WHERE n = ?
