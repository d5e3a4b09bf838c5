SELECT n FROM jobq_job WHERE id = ?
