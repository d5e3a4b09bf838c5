"""The SQL of the operations: one commented file per operation, read from this folder."""

from jobq_storage_postgres.sql.statements import Statements, check_schema, in_schema

__all__ = ["Statements", "check_schema", "in_schema"]
