-- List what keeps dead rows from being removed: transactions of other sessions, prepared ones, and standbys and slots that
-- ask for it. Answers what it is ('session', 'prepared', 'standby' or 'slot'), its process or name, what is known of it,
-- its age in seconds, and in transactions. Of other users' sessions, those that this role may see.
SELECT 'session', a.pid::text, concat_ws(', ', 'application ' || quote_literal(a.application_name), 'user ' || a.usename,
        a.state), extract(epoch FROM clock_timestamp() - a.xact_start)::float8, age(coalesce(a.backend_xmin, a.backend_xid))
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
    AND a.xact_start IS NOT NULL AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
UNION ALL
SELECT 'prepared', p.gid, 'user ' || p.owner, extract(epoch FROM clock_timestamp() - p.prepared)::float8,
    age(p.transaction)
FROM pg_prepared_xacts p
WHERE p.database = current_database()
UNION ALL
SELECT 'standby', a.pid::text, 'application ' || quote_literal(a.application_name), NULL, age(a.backend_xmin)
FROM pg_stat_activity a
WHERE a.backend_type = 'walsender' AND a.backend_xmin IS NOT NULL
UNION ALL
SELECT 'slot', s.slot_name, CASE WHEN s.active THEN 'active' ELSE 'inactive' END, NULL,
    greatest(age(s.xmin), age(s.catalog_xmin))
FROM pg_replication_slots s
WHERE s.xmin IS NOT NULL OR s.catalog_xmin IS NOT NULL
