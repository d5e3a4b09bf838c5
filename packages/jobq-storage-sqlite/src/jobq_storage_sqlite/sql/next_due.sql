SELECT min(run_at) FROM jobq_life WHERE state < 2
