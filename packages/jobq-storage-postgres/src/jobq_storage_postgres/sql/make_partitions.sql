-- Make the partitions of this week and the next.
SELECT jobq.make_partitions(1)
