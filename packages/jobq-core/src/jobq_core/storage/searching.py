"""`same_json`: when the argument of a job equals the one that a `JobFilter` names."""

from __future__ import annotations

from typing import Any


def same_json(one: Any, two: Any) -> bool:
    """Return whether two decoded JSON values are equal.

    Numbers are compared by their value, objects whatever the order of their keys. true is
    not 1, as in JSON and not as in Python.
    """
    if isinstance(one, bool) or isinstance(two, bool):
        return one is two
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(same_json(value, two[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(same_json, one, two))
    return bool(one == two)
