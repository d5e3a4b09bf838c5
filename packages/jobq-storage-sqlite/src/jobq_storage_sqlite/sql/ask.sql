UPDATE jobq_life SET request = ?2 WHERE n = ?1 AND state = 4
