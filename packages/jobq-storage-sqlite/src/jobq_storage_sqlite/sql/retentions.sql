SELECT queue, completed, failed, aborted FROM jobq_retention
