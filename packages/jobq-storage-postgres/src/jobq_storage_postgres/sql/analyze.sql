-- Update the planner's statistics after a bulk load.
SELECT jobq.analyze()
