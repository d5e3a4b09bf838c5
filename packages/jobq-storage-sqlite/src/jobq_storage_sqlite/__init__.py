"""SQLite storage for jobq."""
