-- Forget skipped positions below which no job can appear any more, and no job is left.
DELETE FROM jobq.skipped p
WHERE p.horizon <= pg_snapshot_xmin(pg_current_snapshot())
    AND NOT EXISTS (
        SELECT FROM jobq.ready r WHERE r.queue = p.queue AND r.rank = p.rank AND r.position <= p.position
    )
