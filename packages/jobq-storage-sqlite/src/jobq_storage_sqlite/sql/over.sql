SELECT n FROM jobq_life WHERE state > 4 AND queue = ? AND state = ? AND finished_at <= ? ORDER BY finished_at LIMIT ?
