SELECT r.ctid AS row, r.id, r.since, r.run_at, r.deadline, r.size, r.priority, r.attempt, r.flags, r.keyed,
    r.queue, r.kind, r.extra
FROM jobq.ready r
WHERE r.queue = line.queue AND r.rank = line.rank AND r.position > line.mark
ORDER BY r.position
LIMIT $6::integer
FOR UPDATE SKIP LOCKED
