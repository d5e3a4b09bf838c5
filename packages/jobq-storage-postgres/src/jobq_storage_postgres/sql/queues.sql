-- List the queues whose options were set, by name.
SELECT name, paused_at, paused_by, has_retention, owner, completed, failed, aborted
FROM jobq.queue
WHERE paused_at IS NOT NULL OR has_retention
ORDER BY name
