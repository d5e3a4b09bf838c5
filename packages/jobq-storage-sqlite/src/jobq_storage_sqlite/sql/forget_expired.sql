DELETE FROM jobq_worker WHERE abs(? - beat_uptime) >= lost_after
