-- List sessions that are idle in a transaction and hold locks on tables of jobq: process, application, user, the tables,
-- and for how many seconds they are idle.
SELECT a.pid, a.application_name, a.usename, string_agg(DISTINCT c.relname, ', '),
    extract(epoch FROM clock_timestamp() - a.state_change)::float8
FROM pg_stat_activity a
JOIN pg_locks l ON l.pid = a.pid AND l.locktype = 'relation' AND l.granted
    AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
JOIN pg_class c ON c.oid = l.relation
WHERE a.state LIKE 'idle in transaction%' AND a.pid <> pg_backend_pid()
    AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'jobq.job'::regclass) AND c.relkind IN ('r', 'p')
GROUP BY a.pid, a.application_name, a.usename, a.state_change
