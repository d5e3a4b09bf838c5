INSERT INTO jobq_bell (topic, rings) VALUES (?, 1)
ON CONFLICT (topic) DO UPDATE SET rings = rings + 1
RETURNING rings
