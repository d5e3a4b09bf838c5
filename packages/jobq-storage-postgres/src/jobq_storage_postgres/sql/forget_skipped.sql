-- Forget what was passed once nothing can turn up below it any more, and nothing is there.
DELETE FROM jobq.skipped p
WHERE p.horizon <= pg_snapshot_xmin(pg_current_snapshot())
    AND NOT EXISTS (
        SELECT FROM jobq.ready r WHERE r.queue = p.queue AND r.priority = p.priority AND r.position <= p.position
    )
