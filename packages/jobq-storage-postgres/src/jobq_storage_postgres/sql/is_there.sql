-- Return whether this database has the tables.
SELECT to_regclass('jobq.maintenance') IS NOT NULL
