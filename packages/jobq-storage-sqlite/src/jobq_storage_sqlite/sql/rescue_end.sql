UPDATE jobq_life SET state = ?2, reason = ?3, finished_at = ?4, error_lease = ?5, request = NULL WHERE n = ?1
