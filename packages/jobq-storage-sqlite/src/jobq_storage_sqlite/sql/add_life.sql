INSERT INTO jobq_life (n, queue, urgency, position, state, run_at, reason, unique_key)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
