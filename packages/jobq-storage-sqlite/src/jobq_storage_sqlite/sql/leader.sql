SELECT worker, expires_at FROM jobq_leader WHERE one = 1
