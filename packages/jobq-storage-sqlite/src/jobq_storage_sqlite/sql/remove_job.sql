DELETE FROM jobq_job WHERE n = ?
