-- List the indexes of jobq that are not valid: the statements that need them read whole tables.
SELECT c.relname
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'jobq.job'::regclass)
    AND NOT (i.indisvalid AND i.indisready)
ORDER BY c.relname
