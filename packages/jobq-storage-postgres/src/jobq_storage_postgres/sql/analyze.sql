-- Tell the planner of a bulk load.
SELECT jobq.analyze()
