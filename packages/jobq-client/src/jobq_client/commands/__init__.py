"""The operator's commands: `jobq status`, `jobq jobs`, `jobq why` and the others, each in the module of its name."""
