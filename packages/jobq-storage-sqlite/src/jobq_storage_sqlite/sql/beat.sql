UPDATE jobq_worker SET stats = ?2, beat_at = ?3, expires_at = ?3 + lost_after WHERE id = ?1
