-- Make the partitions of this week and the next one.
SELECT jobq.make_partitions(1)
