SELECT expires_at FROM jobq_worker WHERE id = ?
