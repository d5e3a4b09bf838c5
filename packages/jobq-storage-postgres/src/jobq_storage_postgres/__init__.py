"""PostgreSQL storage for jobq."""

from jobq_storage_postgres.storage import PostgresQueueStorage

__all__ = ["PostgresQueueStorage"]
