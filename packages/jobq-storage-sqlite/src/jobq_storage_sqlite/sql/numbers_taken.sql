UPDATE jobq_sequence SET value = ? WHERE one = 1
