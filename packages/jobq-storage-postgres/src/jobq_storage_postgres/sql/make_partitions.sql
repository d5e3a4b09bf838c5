-- Make the partitions of this week and of the time to come; answers how many, or NULL if the default one is too large.
SELECT jobq.make_partitions()
