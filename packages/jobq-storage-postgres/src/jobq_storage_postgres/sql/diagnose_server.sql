-- Describe the server: whether it is a standby, and whether transactions are read-only; connections, and how many there can
-- be; ages in transactions of the database and of its multixacts; bytes of the default partitions, and whether there is a
-- partition for the jobs of this moment.
SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::boolean,
    (SELECT sum(numbackends) FROM pg_stat_database)::bigint,
    current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint,
    age(d.datfrozenxid)::bigint, mxid_age(d.datminmxid)::bigint, jobq.default_size(),
    EXISTS (
        SELECT FROM jobq.partitions() p
        WHERE p.low <= (jobq.clock() AT TIME ZONE 'UTC')::date AND p.high > (jobq.clock() AT TIME ZONE 'UTC')::date
    )
FROM pg_database d
WHERE d.datname = current_database()
