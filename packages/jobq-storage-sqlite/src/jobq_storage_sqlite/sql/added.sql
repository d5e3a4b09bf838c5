SELECT n FROM jobq_job WHERE n >= ?
