DELETE FROM jobq_job WHERE n IN (SELECT value FROM json_each(?))
