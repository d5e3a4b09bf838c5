SELECT id, json_extract(info, '$.name'), beat_at FROM jobq_worker WHERE expires_at <= ?1 ORDER BY number
