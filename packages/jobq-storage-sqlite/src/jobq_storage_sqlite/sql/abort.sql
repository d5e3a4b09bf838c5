UPDATE jobq_life SET state = 7, finished_at = ?2, reason = 'aborted' WHERE n = ?1
