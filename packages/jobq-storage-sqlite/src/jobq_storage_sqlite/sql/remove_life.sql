DELETE FROM jobq_life WHERE n = ?
