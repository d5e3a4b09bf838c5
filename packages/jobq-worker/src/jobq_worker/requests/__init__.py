"""Requests of operators to a worker: to drain, or to show the stacks of what it runs."""
