SELECT n, queue FROM jobq_life WHERE state < 2 AND run_at <= ? ORDER BY run_at, n LIMIT ?
