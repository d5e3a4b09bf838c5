SELECT id, json_extract(info, '$.name'), beat_at, beat_uptime
FROM jobq_worker WHERE abs(? - beat_uptime) >= lost_after ORDER BY number
