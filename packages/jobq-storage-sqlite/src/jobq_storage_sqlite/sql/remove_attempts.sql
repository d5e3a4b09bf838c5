DELETE FROM jobq_attempt WHERE n IN (SELECT value FROM json_each(?))
