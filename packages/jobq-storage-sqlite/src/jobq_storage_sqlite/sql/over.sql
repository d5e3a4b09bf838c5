SELECT n FROM jobq_life WHERE state > 4 AND queue = ?1 AND state = ?2 AND finished_at <= ?3 ORDER BY finished_at LIMIT ?4
