-- Return the bytes of the default partitions.
SELECT jobq.default_size()
