UPDATE jobq_worker SET stats = ?, beat_at = ?, beat_uptime = ? WHERE id = ?
