"""Ids of jobs and workers: UUIDs of version 7 (RFC 9562), which sort by the time they were made."""

from __future__ import annotations

import uuid

import uuid_utils.compat

from jobq_core.errors import InvalidJobError


def new_id(offset: float = 0.0) -> uuid.UUID:
    """Make a UUIDv7; `offset` is the storage's clock less this machine's, in seconds."""
    made = uuid_utils.compat.uuid7()
    if not offset:
        return made
    # The first 48 bits of a UUIDv7 are milliseconds since 1970.
    return uuid.UUID(int=made.int + (round(offset * 1000) << 80))


def parse_id(value: uuid.UUID | str) -> uuid.UUID:
    """Return the id that a string spells; raises InvalidJobError if it spells none."""
    if isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise InvalidJobError(f"{value!r} is not a job id (a UUID such as {new_id()})") from None
