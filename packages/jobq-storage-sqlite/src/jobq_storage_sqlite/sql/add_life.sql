INSERT INTO jobq_life (n, queue, urgency, position, state, run_at, reason, unique_key)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
