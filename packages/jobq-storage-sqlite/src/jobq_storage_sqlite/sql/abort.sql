UPDATE jobq_life SET state = 7, finished_at = ?, reason = 'aborted' WHERE n = ?
