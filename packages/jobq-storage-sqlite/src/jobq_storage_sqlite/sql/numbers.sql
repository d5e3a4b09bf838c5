SELECT value FROM jobq_sequence WHERE one = 1
