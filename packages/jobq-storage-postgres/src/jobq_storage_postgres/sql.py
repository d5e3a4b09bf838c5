"""The SQL of the operations: the statements of one schema, read from the files of the folder `sql`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from psycopg.sql import Identifier

from jobq_core.errors import ConfigurationError
from jobq_core.reprs import short_repr
from jobq_storage_postgres.protocol import Statement

FOLDER: Final = Path(__file__).with_name("sql")
"""One file per operation. `parts` has the parts that stand in the place of a name in braces."""
_CLAIMS: Final = {"claim": ("lines", "none"), "claim_limited": ("limited_lines", "fitting")}
"""The statements made of `claim.sql`: the parts with the lines that they claim from, and how many jobs they take if
not all fit. Without the exact count, claiming one job on an idle server takes it 8 % less time."""


def check_schema(schema: str) -> str:
    """Return the name of a schema. Raises ConfigurationError for a name that PostgreSQL could not keep as it is."""
    # The name is quoted wherever it stands. But in the migrations it may stand in a comment (which a line end would
    # end), in a function's body (which $$ would end) or in a string (in which a backslash may begin an escape).
    if not isinstance(schema, str):
        raise ConfigurationError(f"schema must be a name of 1 to 50 bytes, not {short_repr(schema)}")
    if not schema.isprintable() or "\\" in schema or "$$" in schema or not 1 <= len(schema.encode()) <= 50:
        # The name is not repeated: in a URL that lacks a & it may contain a password.
        raise ConfigurationError(
            "schema must be a name of 1 to 50 bytes, without control characters, backslashes and $$"
        )
    if schema.startswith("pg_") or schema == "information_schema":
        raise ConfigurationError("PostgreSQL reserves the schema's name (pg_…, information_schema); choose another one")
    return schema


def in_schema(sql: str, schema: str) -> str:
    """Replace `jobq.` in SQL by the quoted name of the schema."""
    name = Identifier(schema).as_string(None)
    # In a string constant ('jobq.position') a single quote is doubled.
    return re.sub(r"('?)\bjobq\.", lambda m: m[1] + (name.replace("'", "''") if m[1] else name) + ".", sql)


class Statements:
    """All statements for one schema, by the names of their files.

    The files are read when the first storage is made: a deployment may replace or remove them while this process runs.
    """

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._texts = _read()
        self._made: dict[str, Statement] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __getitem__(self, name: str) -> Statement:
        statement = self._made.get(name)
        if statement is None:
            statement = self._made[name] = Statement(name, in_schema(self._texts[name], self._schema))
        return statement


@cache
def _read() -> Mapping[str, str]:
    texts, parts = (
        {path.stem: path.read_text(encoding="utf-8").rstrip() for path in folder.glob("*.sql")}
        for folder in (FOLDER, FOLDER / "parts")
    )
    claims = {
        name: _fill(texts["claim"], parts | {"lines": parts[lines], "fitting": parts[fitting]})
        for name, (lines, fitting) in _CLAIMS.items()
    }
    return {name: _fill(text, parts) for name, text in texts.items()} | claims


def _fill(text: str, parts: Mapping[str, str]) -> str:
    """Put parts in the place of their names in braces, and parts of parts."""
    return re.sub(r"\{(\w+)\}", lambda match: _fill(parts[match[1]], parts) if match[1] in parts else match[0], text)
