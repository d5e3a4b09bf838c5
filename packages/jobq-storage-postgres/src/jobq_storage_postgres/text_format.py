"""Statements and parameters as text, for drivers that take no parameters in binary format."""

from __future__ import annotations

import re
from collections.abc import Callable
from struct import unpack
from typing import Final, TypeAlias
from uuid import UUID

from jobq_storage_postgres.binary import Param, unpack_moment

_COMMENT: Final = re.compile(r"--[^\n]*")
_PARAMETER: Final = re.compile(r"\$(\d+)(?:::(\w+(?:\[\])?))?")

Show: TypeAlias = "Callable[[bytes], str]"


def _integer(data: bytes) -> str:
    return str(int.from_bytes(data, signed=True))


def _float8(data: bytes) -> str:
    return repr(unpack("!d", data)[0])


_SHOW: Final[dict[str, Show]] = {
    "bigint": _integer,
    "bool": lambda data: "t" if data == b"\1" else "f",
    "boolean": lambda data: "t" if data == b"\1" else "f",
    "bytea": lambda data: "\\x" + data.hex(),
    "float8": _float8,
    "int": _integer,
    "integer": _integer,
    "json": bytes.decode,
    "smallint": _integer,
    "text": bytes.decode,
    "timestamptz": lambda data: unpack_moment(data).isoformat(),
    "uuid": lambda data: str(UUID(bytes=data)),
}
"""How each type that the statements name is written."""


class TextStatement:
    """A statement whose parameters are text that is cast to the types that the statement names.

    mark: returns the driver's placeholder of the parameter of a number. escape: makes the rest fit for the driver.
    """

    __slots__ = ("_types", "sql")

    def __init__(self, sql: str, mark: Callable[[int], str], escape: Callable[[str], str] = str) -> None:
        plain = _COMMENT.sub("", sql)
        types = {int(number): kind for number, kind in _PARAMETER.findall(plain) if kind}
        self._types = [types[number] for number in sorted(types)]

        def replace(match: re.Match[str]) -> str:
            return f"(({mark(int(match[1]))}::text)::{types[int(match[1])]})"

        self.sql = _PARAMETER.sub(replace, escape(plain))

    def params(self, packed: list[Param]) -> list[str | None]:
        """Return parameters in text format."""
        return [to_text(kind, data) for kind, data in zip(self._types, packed, strict=True)]


def to_text(kind: str, data: Param) -> str | None:
    """Return the text of a value in binary format. kind: the name of its type, with [] for an array."""
    if data is None:
        return None
    if not kind.endswith("[]"):
        return _SHOW[kind](data)
    show, position, shown = _SHOW[kind[:-2]], 20, list[str]()
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], signed=True)
        position += 4
        if length < 0:
            shown.append("NULL")
            continue
        text = show(data[position : position + length]).replace("\\", "\\\\").replace('"', '\\"')
        shown.append(f'"{text}"')
        position += length
    return "{" + ",".join(shown) + "}"
