UPDATE jobq_worker SET stats = ?, beat_at = ?, expires_at = ? + lost_after WHERE id = ?
