-- Examining the file.

-- name: count_pages
-- The number of pages, the bytes of one, and how many are free.
SELECT page_count, page_size, freelist_count
FROM pragma_page_count, pragma_page_size, pragma_freelist_count

-- name: quick_check
PRAGMA quick_check(10)

-- name: applied_migrations
SELECT name FROM jobq_migration

-- name: schema_objects
SELECT name FROM sqlite_master WHERE name LIKE 'jobq\_%' ESCAPE '\'

-- name: oldest_minute
SELECT min(minute) FROM jobq_tally
