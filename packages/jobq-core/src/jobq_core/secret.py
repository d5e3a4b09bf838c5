"""`Secret[str]`: an argument that is stored and handed to the handler, and never shown."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import attrs
from msgspec import Struct

T = TypeVar("T")


class Secret(Generic[T]):
    """A value whose repr, str and format show `***`; `reveal()` gives it.

    It is stored as it is with the job's other arguments: keep the database safe, or encrypt it before.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """Return the value itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and bool(self._value == other._value)

    def __hash__(self) -> int:
        return hash((Secret, self._value))


def show_without(value: Struct, *hidden: str) -> str:
    """Return the repr of a struct without the fields in which Secrets stand as they are stored."""
    shown = ", ".join(f"{name}={getattr(value, name)!r}" for name in value.__struct_fields__ if name not in hidden)
    return f"{type(value).__qualname__}({shown})"


def redact(text: str, values: tuple[Any, ...]) -> str:
    """Return `text` with the revealed value of each Secret in `values`, at any depth, replaced by `***`."""
    found: list[str] = []
    _collect(values, found)
    for revealed in sorted(found, key=len, reverse=True):
        text = text.replace(revealed, "***")
    return text


def _collect(value: Any, found: list[str]) -> None:
    if isinstance(value, Secret):
        revealed = str(value.reveal())
        if revealed:
            # Imported where it is used: few programs keep secrets, and fewer handlers fail with one in hand.
            import json

            # As it is, and as it stands in a repr or in JSON, where quotes and line ends are escaped.
            found += {revealed, repr(revealed)[1:-1], json.dumps(revealed)[1:-1]}
    elif isinstance(value, dict):
        for item in value.values():
            _collect(item, found)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            _collect(item, found)
    elif attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            _collect(getattr(value, field.name), found)
