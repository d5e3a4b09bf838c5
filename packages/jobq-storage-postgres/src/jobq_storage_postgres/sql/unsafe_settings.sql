-- Which settings of the server let a crash of its machine lose what was acknowledged, or worse.
SELECT name FROM unnest(ARRAY['fsync', 'full_page_writes']) AS name WHERE current_setting(name) = 'off'
