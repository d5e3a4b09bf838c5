SELECT 1 FROM jobq_sequence
