SELECT topic, rings FROM jobq_bell WHERE topic IN (SELECT value FROM json_each(?))
