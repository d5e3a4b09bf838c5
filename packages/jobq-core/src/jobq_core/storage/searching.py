"""What a search has in common on several storages: when an argument or an error is the one that a `JobFilter` names,
and where to look for the children of a job."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from attrs import evolve

from jobq_core.encoding import decode_or_show
from jobq_core.ids import first_id_after
from jobq_core.masking import marked_secrets
from jobq_core.parents import time_of_id, times_of_children
from jobq_core.records import ErrorRecord
from jobq_core.storage.reader import JobFilter, ReaderStorage


async def near_parent(
    storage: ReaderStorage, filter: JobFilter, after: UUID | None = None
) -> tuple[JobFilter, UUID | None]:
    """Return a filter, and the id below which to look: of one with a `parent`, for the time in which a parent that was
    read has added its children. A `since` or `until` that was given stays."""
    if filter.parent is None:
        return filter, after
    (parent,) = await storage.get([filter.parent])
    first, last = (time_of_id(filter.parent), None) if parent is None else times_of_children(parent)
    if filter.until is None and last is not None:
        before = first_id_after(last)
        after = before if after is None else min(after, before)
    return filter if filter.since is not None else evolve(filter, since=first), after


def has_error(error: ErrorRecord | None, filter: JobFilter) -> bool:
    """Return whether an error is of the type and has the text that a filter names; without either, any job's is."""
    if filter.error_type is not None and (error is None or error.type != filter.error_type):
        return False
    return filter.error is None or (error is not None and filter.error.lower() in error.message.lower())


def has_argument(arguments: bytes | str, meta: bytes | None, name: str, value: Any) -> bool:
    """Return whether a job has an argument of this name and value; never for one that is stored as a Secret."""
    if name in marked_secrets(meta):
        return False
    stored = decode_or_show(arguments)
    return isinstance(stored, dict) and name in stored and same_json(stored[name], value)


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
