"""`link`: addresses within the application, with a query."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlencode


def link(base: str, path: str, *parts: Any, **query: Any) -> str:
    """Return the address of a page.

    parts: what follows the path, each escaped. query: None and '' are left out; a list is repeated; a trailing
    underscore of a name is removed.
    """
    whole = base + path + "".join("/" + quote(str(part), safe="") for part in parts)
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        pairs += [(name.rstrip("_"), text) for text in _texts(value)]
    return f"{whole}?{urlencode(pairs)}" if pairs else whole


def _texts(value: Any) -> Iterable[str]:
    if value is None or value == "":
        return ()
    if isinstance(value, (list, tuple, set, frozenset)):
        return sorted(map(str, value))
    return (str(value),)
