-- A column that code without this migration does not know, in every table that its statements write.
ALTER TABLE jobq_job ADD COLUMN skew INTEGER NOT NULL DEFAULT 7;
ALTER TABLE jobq_life ADD COLUMN skew INTEGER NOT NULL DEFAULT 7;
ALTER TABLE jobq_attempt ADD COLUMN skew INTEGER NOT NULL DEFAULT 7;
ALTER TABLE jobq_worker ADD COLUMN skew INTEGER NOT NULL DEFAULT 7;
