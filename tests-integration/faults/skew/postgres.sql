-- A column that code without this migration does not know, in every table that its statements write.
ALTER TABLE jobq.job ADD COLUMN skew integer NOT NULL DEFAULT 7;
ALTER TABLE jobq.waiting ADD COLUMN skew integer NOT NULL DEFAULT 7;
ALTER TABLE jobq.ready ADD COLUMN skew integer NOT NULL DEFAULT 7;
ALTER TABLE jobq.running ADD COLUMN skew integer NOT NULL DEFAULT 7;
ALTER TABLE jobq.outcome ADD COLUMN skew integer NOT NULL DEFAULT 7;
ALTER TABLE jobq.worker ADD COLUMN skew integer NOT NULL DEFAULT 7;
ALTER TABLE jobq.queue ADD COLUMN skew integer NOT NULL DEFAULT 7;
