-- The age in seconds of the oldest transaction of another session of this database that holds back the removal of dead
-- rows, prepared transactions included; 0 without any. Sessions of other users count if this user may see them.
SELECT coalesce(extract(epoch FROM clock_timestamp() - min(began)), 0)::float8
FROM (
    SELECT xact_start AS began
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
    UNION ALL
    SELECT prepared FROM pg_prepared_xacts WHERE database = current_database()
) AS transactions
