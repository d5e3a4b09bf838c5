DELETE FROM jobq_worker WHERE id = ?1
