-- Read what distinguishes this schema from others of the same name.
SELECT installation FROM jobq.maintenance
