"""The SQL of this package: statements in files of commented blocks, each of which begins with `-- name: …`.

A block may include another by its name in braces, such as `{record}`.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent
_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT: Final = re.compile(r"^ *--.*\n", re.MULTILINE)
_INCLUDED: Final = re.compile(r"\{(\w+)\}")


@cache
def sql(name: str) -> str:
    """Return the statement of this name, without comments."""
    return _INCLUDED.sub(lambda match: sql(match[1]), statements()[name])


@cache
def statements() -> dict[str, str]:
    """Return the blocks of all files, by name."""
    # importlib.resources would find files in archives too; its import takes as long as that of this whole package.
    found: dict[str, str] = {}
    for file in sorted(_FOLDER.glob("*.sql")):
        _, *parts = _NAME.split(file.read_text("utf-8"))
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            found[name] = _COMMENT.sub("", text).strip()
    return found
