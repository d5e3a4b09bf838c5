-- Bulk operations, the audit, and requests to workers.

-- name: add_operation
INSERT INTO jobq_operation
    (id, action, value, filter, before, actor, created_at, matched, state, cursor, done, changed, refused)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING

-- name: operation
-- The columns of an Operation.
id, action, value, filter, before, actor, created_at, matched, state, cursor, done, changed, refused, worked_at,
    finished_at, error

-- name: find_operations
WITH RECURSIVE {wanted}
SELECT {operation} FROM jobq_operation WHERE id IN (SELECT wanted.id FROM wanted)

-- name: newest_operations
SELECT {operation} FROM jobq_operation ORDER BY id DESC LIMIT :limit

-- name: running_operations
SELECT {operation} FROM jobq_operation WHERE state = 'running' ORDER BY id LIMIT :limit

-- name: save_operation
-- One that was cancelled meanwhile stays cancelled.
UPDATE jobq_operation
SET cursor = :cursor, done = :done, changed = :changed, refused = :refused, error = coalesce(:error, error),
    state = CASE WHEN state = 'running' THEN :state ELSE state END, worked_at = :now,
    finished_at = CASE WHEN state <> 'running' THEN finished_at WHEN :state <> 'running' THEN :now END
WHERE id = :id AND state <> 'done' AND cursor IS :seen

-- name: cancel_operation
UPDATE jobq_operation SET state = 'cancelled', finished_at = ? WHERE id = ? AND state = 'running'

-- name: record_audit
INSERT INTO jobq_audit (id, at, actor, action, target, details) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING

-- name: audit
SELECT id, at, actor, action, target, details FROM jobq_audit
WHERE id < :before
ORDER BY id DESC
LIMIT :limit

-- name: audit_of
SELECT id, at, actor, action, target, details FROM jobq_audit
WHERE target = :target AND id < :before
ORDER BY id DESC
LIMIT :limit

-- name: ask_worker
INSERT INTO jobq_worker_request (id, worker, action, job, actor, asked_at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING

-- name: request_columns
-- The columns of a WorkerRequest.
id, worker, action, job, actor, asked_at, answered_at, answer

-- name: worker_requests
SELECT {request_columns} FROM jobq_worker_request
WHERE worker = :worker AND answered_at IS NULL
ORDER BY asked_at, id

-- name: answer_request
UPDATE jobq_worker_request SET answered_at = ?, answer = ? WHERE id = ?

-- name: get_requests
WITH RECURSIVE {wanted}
SELECT {request_columns} FROM jobq_worker_request WHERE id IN (SELECT wanted.id FROM wanted)

-- name: delete_requests_to
DELETE FROM jobq_worker_request WHERE worker = ?
