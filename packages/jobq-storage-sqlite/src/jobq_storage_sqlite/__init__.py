"""SQLite storage for jobq."""

from jobq_storage_sqlite.storage import SqliteQueueStorage

__all__ = ["SqliteQueueStorage"]
