DELETE FROM jobq_life WHERE n IN (SELECT value FROM json_each(?))
