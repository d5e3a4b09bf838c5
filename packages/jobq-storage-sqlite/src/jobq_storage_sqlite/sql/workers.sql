SELECT id, info, stats, started_at, beat_at, expires_at FROM jobq_worker ORDER BY number
