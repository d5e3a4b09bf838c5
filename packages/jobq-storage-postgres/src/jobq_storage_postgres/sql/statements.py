"""The SQL of the operations, read from the files that are named after them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

from psycopg.sql import Identifier

from jobq_core.errors import ConfigurationError
from jobq_core.reprs import short_repr
from jobq_storage_postgres.protocol import Statement

FOLDER: Final = Path(__file__).parent
"""One file per operation."""


def check_schema(schema: str) -> str:
    """Return the name of a schema; raises ConfigurationError for one that PostgreSQL could not keep as it is."""
    # The name is quoted wherever it stands; but in the migrations that may be a comment (which a line end would end), a
    # function's body (which $$ would end) or a string (in which old servers' settings let a backslash begin an escape).
    if not isinstance(schema, str):
        raise ConfigurationError(f"schema must be a name of 1 to 50 bytes, not {short_repr(schema)}")
    if not schema.isprintable() or "\\" in schema or "$$" in schema or not 1 <= len(schema.encode()) <= 50:
        # Not repeated, neither here nor below: a URL that lacks a & has more in an option's value, a password too.
        raise ConfigurationError(
            "schema must be a name of 1 to 50 bytes, without control characters, backslashes and $$"
        )
    if schema.startswith("pg_") or schema == "information_schema":
        raise ConfigurationError("the schema's name is one of PostgreSQL's own (pg_…); choose another")
    return schema


def in_schema(sql: str, schema: str) -> str:
    """Put the schema's quoted name where the files say `jobq.`."""
    name = Identifier(schema).as_string(None)
    # Within a string constant ('jobq.position') a quote would end it.
    return re.sub(r"('?)\bjobq\.", lambda m: m[1] + (name.replace("'", "''") if m[1] else name) + ".", sql)


class Statements:
    """All statements for one schema, by the name of their file."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._made: dict[str, Statement] = {}

    def __getitem__(self, name: str) -> Statement:
        statement = self._made.get(name)
        if statement is None:
            statement = self._made[name] = Statement(name, in_schema(_read(name), self._schema))
        return statement


@cache
def _read(name: str) -> str:
    return FOLDER.joinpath(f"{name}.sql").read_text(encoding="utf-8")
