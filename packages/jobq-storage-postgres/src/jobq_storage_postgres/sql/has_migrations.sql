-- Return whether the schema has a table of migrations.
SELECT to_regclass('jobq.migration') IS NOT NULL
