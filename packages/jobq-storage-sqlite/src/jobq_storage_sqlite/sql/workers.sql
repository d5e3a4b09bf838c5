SELECT id, info, stats, started_at, beat_at, beat_at + lost_after FROM jobq_worker ORDER BY number
