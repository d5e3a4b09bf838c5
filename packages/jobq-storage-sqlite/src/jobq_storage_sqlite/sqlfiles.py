"""The SQL, kept in files named after the operation that runs it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def sql(name: str) -> str:
    """Return the statement in sql/`name`.sql, without its comments' cost: it is read once."""
    return files("jobq_storage_sqlite").joinpath("sql", f"{name}.sql").read_text("utf-8").strip()
