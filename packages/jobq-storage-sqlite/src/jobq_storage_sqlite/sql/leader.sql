SELECT worker, uptime + term FROM jobq_leader WHERE one = 1
