"""A log outside the queue's storage: what was asked of the queue and what it did, as those saw it who asked and ran.

A line is one JSON object, appended by one write of less than a page to a file opened with O_APPEND: lines of several
processes never mix, and what was written stays written when its writer is killed. Times are CLOCK_MONOTONIC's, which is
one clock for all processes of a machine.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal
from uuid import UUID

import msgspec
from msgspec import Struct

LONGEST = 4096
"""Bytes of a line at most."""

Answer = Literal["acknowledged", "refused", "unknown"]
How = Literal["completed", "failed", "stopped"]
"""How a handler ended: it returned, it raised what was the job's fault, or it was told to stop."""


class Asked(Struct, frozen=True, kw_only=True, tag=True):
    """A client is about to add a job. Where no Answered follows, it is not known whether it did.

    ends: the state that it must end in, if nobody aborts it.
    """

    token: str
    at: float
    ends: str = "completed"
    unique_key: str | None = None
    pid: int = 0


class Answered(Struct, frozen=True, kw_only=True, tag=True):
    """A client was told what became of its add; job: the id it was given. created: False if another stands for it."""

    token: str
    answer: Answer
    at: float
    job: UUID | None = None
    created: bool = True
    error: str = ""


class Aborting(Struct, frozen=True, kw_only=True, tag=True):
    """A client is about to abort a job. Where no AbortAnswered follows, it is not known whether it did."""

    job: UUID
    at: float


class AbortAnswered(Struct, frozen=True, kw_only=True, tag=True):
    """A client was told how the job stands that it aborted: ended, or processing and asked to stop."""

    job: UUID
    state: str
    at: float


class Started(Struct, frozen=True, kw_only=True, tag=True):
    """A handler begins a run."""

    token: str
    job: UUID
    attempt: int
    lease: int
    worker: UUID | None
    pid: int
    at: float


class Ended(Struct, frozen=True, kw_only=True, tag=True):
    """A handler ends the run of this lease."""

    job: UUID
    lease: int
    ending: How
    at: float


class Listening(Struct, frozen=True, kw_only=True, tag=True):
    """A listener was promised the end of this job."""

    listener: str
    job: UUID
    pid: int
    at: float


class Heard(Struct, frozen=True, kw_only=True, tag=True):
    """A listener was told of the end of a job: the state that the event stands for, as completed."""

    listener: str
    job: UUID
    state: str
    at: float


class Told(Struct, frozen=True, kw_only=True, tag=True):
    """A waiter was given the result of a job."""

    token: str
    job: UUID
    result: str
    at: float


class Disturbed(Struct, frozen=True, kw_only=True, tag=True):
    """A process was killed or paused, or will not be able to renew its leases: its own may be lost from here on.

    A killed one has ended by then, so that none of its runs goes on. A paused one goes on once it is resumed.
    """

    pid: int
    how: Literal["killed", "paused", "resumed", "cut off"]
    at: float


Line = Asked | Answered | Aborting | AbortAnswered | Started | Ended | Listening | Heard | Told | Disturbed

_decoder = msgspec.json.Decoder(Line)


def now() -> float:
    """Return the journal's time."""
    return time.monotonic()


class Journal:
    """One process's end of the log."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._lines: list[Line] = []
        self._read = 0

    def write(self, line: Line) -> None:
        """Append a line; once this returns, no death of this process undoes it."""
        data = msgspec.json.encode(line) + b"\n"
        if len(data) >= LONGEST:
            raise ValueError(f"a line of {len(data)} bytes is too long to be written at once: {data[:200]!r}…")
        if os.write(self._file, data) != len(data):
            raise OSError(f"{self.path} took only a part of a line")

    def read(self) -> list[Line]:
        """Return all that has been written so far, by anybody, in the order of writing."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._lines += [_decoder.decode(line) for line in whole.splitlines()]
        self._read += len(whole)
        return list(self._lines)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)
