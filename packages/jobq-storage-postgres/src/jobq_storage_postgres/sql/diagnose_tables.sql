-- List the tables of jobq: name, live and dead rows as of the statistics, whether autovacuum is off, whether row level
-- security is on.
SELECT c.relname, coalesce(s.n_live_tup, 0), coalesce(s.n_dead_tup, 0),
    coalesce(c.reloptions && ARRAY['autovacuum_enabled=false', 'autovacuum_enabled=off', 'autovacuum_enabled=0'], false),
    c.relrowsecurity
FROM pg_class c
LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
WHERE c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'jobq.job'::regclass) AND c.relkind IN ('r', 'p')
ORDER BY c.relname
