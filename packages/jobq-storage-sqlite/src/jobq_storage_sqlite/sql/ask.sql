UPDATE jobq_life SET request = ? WHERE n = ? AND state = 4
