"""The migrations: numbered SQL files with checksums, and what applies each of them once."""

from jobq_storage_postgres.migrations.apply import Migration, as_sql, check, execute, migrate, migrations

__all__ = ["Migration", "as_sql", "check", "execute", "migrate", "migrations"]
