INSERT INTO jobq_worker (id, number, info, stats, lost_after, started_at, beat_at, beat_uptime)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE
SET info = excluded.info, lost_after = excluded.lost_after, beat_at = excluded.beat_at, beat_uptime = excluded.beat_uptime
