DELETE FROM jobq_worker WHERE expires_at <= ?
