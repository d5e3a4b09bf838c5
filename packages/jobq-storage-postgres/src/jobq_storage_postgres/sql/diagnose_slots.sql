-- List the replication slots that nobody reads, and how many bytes of WAL each keeps on the disk.
SELECT s.slot_name, pg_wal_lsn_diff(
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, s.restart_lsn
    )::bigint
FROM pg_replication_slots s
WHERE NOT s.active AND s.restart_lsn IS NOT NULL
