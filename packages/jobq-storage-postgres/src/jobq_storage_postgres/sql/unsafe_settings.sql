-- List the server's settings with which a crash of its machine can lose acknowledged jobs, or the whole database.
SELECT name FROM unnest(ARRAY['fsync', 'full_page_writes']) AS name WHERE current_setting(name) = 'off'
