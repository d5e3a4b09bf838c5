-- What each transaction that writes begins and ends with.

-- name: list_files
PRAGMA database_list

-- name: begin
BEGIN IMMEDIATE

-- name: set_savepoint
-- Before an operation in a transaction of the caller, which may go on after its failure.
SAVEPOINT jobq

-- name: undo_to_savepoint
ROLLBACK TO jobq

-- name: release_savepoint
RELEASE jobq

-- name: read_sequence
SELECT value, prunings FROM jobq_sequence WHERE one = 1

-- name: advance_sequence
UPDATE jobq_sequence SET value = ? WHERE one = 1

-- name: notify
-- Count a notification of a topic and return how many there are now.
INSERT INTO jobq_topic (topic, notifications) VALUES (?, 1)
ON CONFLICT (topic) DO UPDATE SET notifications = notifications + 1
RETURNING notifications

-- name: count_notifications
-- :topics: an array of text as JSON.
SELECT topic, notifications FROM jobq_topic WHERE topic IN (SELECT value FROM json_each(:topics))

-- name: count
-- Change the number of finished jobs of a queue, a state and a kind.
INSERT INTO jobq_count (queue, state, kind, jobs) VALUES (?, ?, ?, ?)
ON CONFLICT (queue, state, kind) DO UPDATE SET jobs = jobs + excluded.jobs

-- name: read_tally
SELECT waiting, running FROM jobq_tally WHERE minute = ? AND queue = ? AND kind = ? AND state = ?

-- name: tally
-- Add to the sums of a minute, and replace its histograms.
INSERT INTO jobq_tally (minute, queue, kind, state, jobs, waiting_seconds, running_seconds, waiting, running)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (minute, queue, kind, state) DO UPDATE
SET jobs = jobs + excluded.jobs, waiting_seconds = waiting_seconds + excluded.waiting_seconds,
    running_seconds = running_seconds + excluded.running_seconds, waiting = excluded.waiting, running = excluded.running
