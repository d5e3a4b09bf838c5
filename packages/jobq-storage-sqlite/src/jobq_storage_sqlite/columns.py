"""How jobq's values are written in the tables, and read from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID, SafeUUID

import msgspec

from jobq_core.encoding import decode_or_show
from jobq_core.records import ErrorRecord, Progress
from jobq_core.states import StopRequest

to_text: Final = partial(str, encoding="utf-8", errors="replace")
"""The text factory of connections that read: text that is not UTF-8, in one row, does not hide the others. It costs the
claim of a job 3 % of its time, so the writer takes it only once it meets such text."""


# An id is made for every job that is claimed.
_new: Final = UUID.__new__
_set_int: Final = UUID.__dict__["int"].__set__
_set_is_safe: Final = UUID.__dict__["is_safe"].__set__
_from_bytes: Final = int.from_bytes


def to_id(value: bytes) -> UUID:
    """Return the UUID of 16 bytes, as UUID(bytes=…) does in four times the time."""
    made = _new(UUID)
    _set_int(made, _from_bytes(value))
    _set_is_safe(made, SafeUUID.unknown)
    return made


def to_optional_id(value: bytes | None) -> UUID | None:
    """Return the UUID of 16 bytes; None stays None."""
    return None if value is None else UUID(bytes=value)


def to_request(value: str | None) -> StopRequest | None:
    """Return the request of its name; None stays None."""
    return None if value is None else StopRequest(value)


def to_tags(value: str | None) -> tuple[str, ...]:
    """Return the texts of a JSON array; None gives an empty tuple."""
    if value is None:
        return ()
    tags = decode_or_show(value)
    return tuple(map(str, tags)) if isinstance(tags, list) else (value,)


def to_array(values: Sequence[Any]) -> str:
    """Return numbers or texts as a JSON array, for json_each."""
    return msgspec.json.encode(values).decode()


def from_ids(ids: Iterable[UUID]) -> bytes:
    """Return ids as the blob that the statements call :ids."""
    return b"".join([job_id.bytes for job_id in ids])


def from_tags(tags: tuple[str, ...]) -> str | None:
    """Return the tags as a JSON array; an empty tuple gives None."""
    return to_array(tags) if tags else None


def from_progress(progress: Progress) -> tuple[float, str | None, bytes | None]:
    """Return the columns of a progress."""
    details = None if progress.details is None else msgspec.json.encode(progress.details)
    return progress.percent, text(progress.message), details


def to_progress(percent: float | None, message: str | None, details: bytes | None) -> Progress:
    """Return the progress of its columns; percent is None if the job reported none."""
    if percent is None:
        return Progress()
    return Progress(percent=percent, message=message, details=None if details is None else decode_or_show(details))


def to_error(kind: str | None, message: str, traceback: str | None) -> ErrorRecord | None:
    """Return the error of its columns; kind is None if there was no error."""
    return None if kind is None else ErrorRecord(type=kind, message=message, traceback=traceback)


def text(value: Any) -> Any:
    """Return text that SQLite keeps: a lone surrogate, as in a file name that is not UTF-8, is spelled out."""
    if value is None or value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode()
