-- Tell the planner of a bulk load.
ANALYZE jobq.waiting, jobq.ready
