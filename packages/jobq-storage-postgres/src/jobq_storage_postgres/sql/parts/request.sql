id, worker, action, job, actor, asked_at, answered_at, answer
