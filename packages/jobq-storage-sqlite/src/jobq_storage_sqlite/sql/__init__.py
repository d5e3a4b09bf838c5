"""The SQL, kept in files named after the operation that runs it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[1]
"""Where this package's files are; importlib.resources, which finds them in archives too, takes as long to import as the
rest of the package, and jobq cannot run from an archive, since what it needs is partly compiled."""


@cache
def sql(name: str) -> str:
    """Return the statement in sql/`name`.sql, without its comments' cost: it is read once."""
    return FOLDER.joinpath("sql", f"{name}.sql").read_text("utf-8").strip()
