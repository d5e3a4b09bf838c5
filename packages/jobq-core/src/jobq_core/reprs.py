"""How error messages show a refused value. This module imports nothing of jobq, so that every module can use it."""

from __future__ import annotations

from typing import Any, Final

_MAX_CHARACTERS: Final = 80


def short_repr(value: Any) -> str:
    """Return the repr of a value, cut to 80 characters; the name of its type where its repr raises."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  (Python refuses to write whole numbers of 4,300 digits; others may raise anything)
        return f"a {type(value).__qualname__}"
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}… ({len(text)} characters)"
