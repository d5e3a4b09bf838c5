-- Read settings of this session, and those that other sessions begin with.
SELECT name, setting, reset_val
FROM pg_settings
WHERE name IN ('autovacuum', 'fsync', 'full_page_writes', 'synchronous_commit', 'track_counts')
