UPDATE jobq_life
SET percent = ?3, message = ?4, details = ?5
WHERE n = (SELECT n FROM jobq_job WHERE id = ?1) AND lease = ?2 AND state = 4
