-- Whether there is any schema of ours.
SELECT to_regclass('jobq.migration') IS NOT NULL
