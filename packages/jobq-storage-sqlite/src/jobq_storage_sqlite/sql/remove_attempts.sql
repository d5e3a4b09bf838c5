DELETE FROM jobq_attempt WHERE n = ?
