UPDATE jobq_life
SET state = 5, settled = 5, finished_at = ?3, result = ?4, request = NULL, reason = ?5
WHERE n = (SELECT n FROM jobq_job WHERE id = ?1) AND lease = ?2 AND state = 4
