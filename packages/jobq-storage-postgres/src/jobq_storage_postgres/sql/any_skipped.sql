-- Return whether jobs may appear below a position that claims skip.
SELECT EXISTS (SELECT FROM jobq.skipped)
