SELECT 1 FROM jobq_worker WHERE abs(? - beat_uptime) < lost_after AND id = ?
