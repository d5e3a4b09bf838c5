j.id, j.kind, s.queue, s.state, coalesce(s.priority, j.priority), j.created_at, s.run_at, j.deadline, j.timeout,
    s.attempt, j.max_attempts, j.run_id, j.tags, j.unique_key, s.reason, s.request, s.worker, s.lease, s.started_at,
    s.finished_at, s.since, s.flags, s.percent, s.message, s.error_type, s.error_message
