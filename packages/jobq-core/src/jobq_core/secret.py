"""`Secret[str]`: an argument that is stored and passed to the handler, and never shown."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

import attrs
from msgspec import Struct

T = TypeVar("T")


class Secret(Generic[T]):
    """A value whose repr, str and format show `***`; `reveal()` returns it.

    The value is stored in plain text with the job's other arguments: protect the database, or encrypt the value first.
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
    """Return the repr of a struct without its `hidden` fields, in which Secrets are stored in plain text."""
    shown = ", ".join(f"{name}={getattr(value, name)!r}" for name in value.__struct_fields__ if name not in hidden)
    return f"{type(value).__qualname__}({shown})"


def redact(text: str, values: tuple[Any, ...]) -> str:
    """Return `text` with `***` in place of the content of the Secrets in `values`, at any depth.

    Replaced are a Secret's value as text, each text within it, and each number of four digits or more: plain, and as in
    a repr, in JSON or in a URL, whole and line by line. Pieces of a text, and other encodings, are not found.
    """
    found: set[str] = set()
    for value in values:
        _collect(value, found)
    for revealed in sorted(found, key=len, reverse=True):
        text = text.replace(revealed, "***")
    return text


def _collect(value: Any, found: set[str]) -> None:
    if isinstance(value, Secret):
        _collect_within(value.reveal(), found)
    else:
        for part in (*value, *value.values()) if isinstance(value, dict) else _parts(value):
            _collect(part, found)


def _collect_within(value: Any, found: set[str], *, whole: bool = True) -> None:
    if isinstance(value, Secret):
        value = value.reveal()
    # Short numbers and booleans occur everywhere: replacing them would garble the text.
    if whole or isinstance(value, (str, bytes)) or (isinstance(value, (int, float)) and abs(value) >= 1000):
        _add(value, found)
    for part in value.values() if isinstance(value, dict) else _parts(value):
        _collect_within(part, found, whole=False)


def _parts(value: Any) -> tuple[Any, ...]:
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return tuple(value)
    kind = type(value)
    if attrs.has(kind):
        names: Iterable[str] = (field.name for field in attrs.fields(kind))
    else:
        names = getattr(kind, "__struct_fields__", ()) or getattr(kind, "__dataclass_fields__", ())
    return tuple(getattr(value, name) for name in names)


def _add(value: Any, found: set[str]) -> None:
    # Imported here, since few programs need it.
    import json
    from urllib.parse import quote, quote_plus

    texts = [value.decode("utf-8", "replace"), repr(value)[2:-1]] if isinstance(value, bytes) else [str(value)]
    for whole in texts:
        lines = [line.strip() for line in whole.splitlines()]
        for text in (whole, *(lines if len(lines) > 1 else ())):
            if text and not text.isspace():
                found |= {text, repr(text)[1:-1], json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
                found |= {quote(text), quote(text, safe=""), quote_plus(text)}
