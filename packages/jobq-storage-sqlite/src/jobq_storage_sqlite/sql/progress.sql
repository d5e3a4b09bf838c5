UPDATE jobq_life
SET percent = ?, message = ?, details = ?
WHERE n = (SELECT n FROM jobq_job WHERE id = ?) AND lease = ? AND state = 4
