UPDATE jobq_life
SET state = 5, settled = 5, finished_at = ?, result = ?, request = NULL, reason = NULL
WHERE n = (SELECT n FROM jobq_job WHERE id = ?) AND lease = ? AND state = 4
