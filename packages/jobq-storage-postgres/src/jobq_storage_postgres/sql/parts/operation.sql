id, action, value, filter, before, actor, created_at, matched, state, cursor, done, changed, refused, worked_at,
    finished_at, error
