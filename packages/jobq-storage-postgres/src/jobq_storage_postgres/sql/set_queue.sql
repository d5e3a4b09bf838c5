-- Set options of a queue; an option that is not given stays. A worker's retention does not replace an operator's. A
-- pause and its end write a row to `line` too, so that workers read the queue's lines and its pause again.
-- $1 queue, $2 owner, $3 whether the queue is paused, or NULL; $4 whether the retention is given: seconds for $5
-- completed, $6 failed and $7 aborted jobs; $8 who pauses it, or NULL.
WITH marked AS (
    UPDATE jobq.line SET registered = pg_current_xact_id()
    WHERE queue = $1::text AND rank IS NULL AND $3::boolean IS NOT NULL
), made AS (
    INSERT INTO jobq.line (queue)
    SELECT $1 WHERE $3 IS NOT NULL AND NOT EXISTS (SELECT FROM jobq.line WHERE queue = $1 AND rank IS NULL)
)
INSERT INTO jobq.queue AS q (name, paused_at, paused_by, has_retention, owner, completed, failed, aborted)
SELECT $1, CASE WHEN $3 THEN jobq.clock() END, CASE WHEN $3 THEN $8::text END, $4::boolean,
    CASE WHEN $4 THEN $2::text END, $5::float8, $6::float8, $7::float8
ON CONFLICT (name) DO UPDATE SET
    paused_at = CASE WHEN $3 IS NULL THEN q.paused_at WHEN $3 THEN coalesce(q.paused_at, excluded.paused_at) END,
    paused_by = CASE
        WHEN $3 IS NULL OR ($3 AND q.paused_at IS NOT NULL) THEN q.paused_by ELSE excluded.paused_by
    END,
    has_retention = q.has_retention OR $4,
    owner = CASE WHEN $4 AND ($2 = 'operator' OR q.owner IS DISTINCT FROM 'operator') THEN $2 ELSE q.owner END,
    completed = CASE
        WHEN $4 AND ($2 = 'operator' OR q.owner IS DISTINCT FROM 'operator') THEN $5 ELSE q.completed
    END,
    failed = CASE WHEN $4 AND ($2 = 'operator' OR q.owner IS DISTINCT FROM 'operator') THEN $6 ELSE q.failed END,
    aborted = CASE WHEN $4 AND ($2 = 'operator' OR q.owner IS DISTINCT FROM 'operator') THEN $7 ELSE q.aborted END
