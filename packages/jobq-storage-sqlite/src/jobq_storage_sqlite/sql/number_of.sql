SELECT n FROM jobq_job WHERE id = ?1
