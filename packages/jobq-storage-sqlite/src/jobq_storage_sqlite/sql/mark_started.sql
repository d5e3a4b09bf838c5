UPDATE jobq_life SET begun_lease = lease
WHERE n = (SELECT n FROM jobq_job WHERE id = ?) AND lease = ? AND worker = ? AND state = 4
