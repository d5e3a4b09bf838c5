DELETE FROM jobq_leader WHERE worker = ?
