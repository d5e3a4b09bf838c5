-- Drop the partitions that ended over a day ago and are nearly empty. $1 how many jobs may be moved out of each.
SELECT jobq.drop_partitions(interval '1 day', $1::integer)
