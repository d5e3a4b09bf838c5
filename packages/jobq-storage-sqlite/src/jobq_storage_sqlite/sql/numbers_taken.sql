UPDATE jobq_sequence SET value = ?1 WHERE one = 1
