-- What each transaction that writes begins and ends with.

-- name: read_sequence
SELECT value FROM jobq_sequence WHERE one = 1

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
