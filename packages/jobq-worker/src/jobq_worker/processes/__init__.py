"""The process that a worker runs in: its signals and its end; and the supervisor of many."""
