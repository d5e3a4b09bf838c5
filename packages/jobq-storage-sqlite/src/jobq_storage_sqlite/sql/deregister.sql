DELETE FROM jobq_worker WHERE id = ?
