SELECT id, json_extract(info, '$.name'), beat_at FROM jobq_worker WHERE expires_at <= ? ORDER BY number
