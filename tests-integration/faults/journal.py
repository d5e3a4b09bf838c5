"""A log outside the queue's storage: what clients asked of the queue and what handlers ran.

A line is one JSON object, appended by one write of less than a page to a file opened with O_APPEND: lines of several
processes never mix, and a written line survives the death of its writer. Times are read from CLOCK_MONOTONIC, which all
processes of a machine share.
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
"""Upper bound of a line, in bytes."""

Answer = Literal["acknowledged", "refused", "unknown"]
How = Literal["completed", "failed", "stopped"]
"""How a handler ended: it returned, it raised an error of the job, or it was told to stop."""


class Asked(Struct, frozen=True, kw_only=True, tag=True):
    """A client is about to add a job. Without an Answered line, it is unknown whether the job was added.

    ends: the state that the job must end in, unless it is aborted. due: whether the job is pending at once.
    """

    token: str
    at: float
    ends: str = "completed"
    unique_key: str | None = None
    pid: int = 0
    due: bool = True


class Answered(Struct, frozen=True, kw_only=True, tag=True):
    """A client got the answer to its add. job: the returned id. created: False if it is the id of an existing job."""

    token: str
    answer: Answer
    at: float
    job: UUID | None = None
    created: bool = True
    error: str = ""


class Aborting(Struct, frozen=True, kw_only=True, tag=True):
    """A client is about to abort a job. Without an AbortAnswered line, it is unknown whether the abort took effect."""

    job: UUID
    at: float


class AbortAnswered(Struct, frozen=True, kw_only=True, tag=True):
    """A client was told the state of the job that it aborted: ended, or processing and asked to stop."""

    job: UUID
    state: str
    at: float


class Requesting(Struct, frozen=True, kw_only=True, tag=True):
    """A client is about to ask for something: 'abort', 'disable' or 'enable'. Without a RequestAnswered line, it is
    unknown whether the request took effect."""

    job: UUID
    what: str
    at: float


class RequestAnswered(Struct, frozen=True, kw_only=True, tag=True):
    """A client was told whether its request changed anything."""

    job: UUID
    changed: bool
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


class Reported(Struct, frozen=True, kw_only=True, tag=True):
    """A handler reports its progress."""

    job: UUID
    lease: int
    percent: float
    at: float


class Serving(Struct, frozen=True, kw_only=True, tag=True):
    """A worker process serves the default queue with this many slots, and knows the kinds of all jobs."""

    pid: int
    slots: int
    at: float


class Stopped(Struct, frozen=True, kw_only=True, tag=True):
    """A process is told to stop (`ended`: False), or has ended and has handed back what it held."""

    pid: int
    ended: bool
    at: float


class Listening(Struct, frozen=True, kw_only=True, tag=True):
    """A listener waits for the end of this job."""

    listener: str
    job: UUID
    pid: int
    at: float


class Heard(Struct, frozen=True, kw_only=True, tag=True):
    """A listener received the terminal event of a job. state: the state that the event announces."""

    listener: str
    job: UUID
    state: str
    at: float


class Told(Struct, frozen=True, kw_only=True, tag=True):
    """A waiter received the result of a job."""

    token: str
    job: UUID
    result: str
    at: float


class Disturbed(Struct, frozen=True, kw_only=True, tag=True):
    """A process was killed, paused, resumed or cut off. From then on it may lose its leases.

    killed: the process has ended, so none of its runs goes on. paused: it goes on once it is resumed. cut off: it
    cannot renew its leases.
    """

    pid: int
    how: Literal["killed", "paused", "resumed", "cut off"]
    at: float


Line = (
    Asked
    | Answered
    | Aborting
    | AbortAnswered
    | Requesting
    | RequestAnswered
    | Started
    | Reported
    | Ended
    | Serving
    | Stopped
    | Listening
    | Heard
    | Told
    | Disturbed
)

_decoder = msgspec.json.Decoder(Line)


def now() -> float:
    """Return the current time of the journal, in seconds."""
    return time.monotonic()


class Journal:
    """The log, as one process writes and reads it."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._lines: list[Line] = []
        self._read = 0

    def write(self, line: Line) -> None:
        """Append a line. It survives the death of this process once this returns.

        Raises ValueError if the line is too long to be written at once.
        """
        data = msgspec.json.encode(line) + b"\n"
        if len(data) >= LONGEST:
            raise ValueError(f"a line of {len(data)} bytes is too long to be written at once: {data[:200]!r}…")
        if os.write(self._file, data) != len(data):
            raise OSError(f"{self.path} accepted only a part of a line")

    def read(self) -> list[Line]:
        """Return all lines that any process has written so far, in the order of writing."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._lines += [_decoder.decode(line) for line in whole.splitlines()]
        self._read += len(whole)
        return list(self._lines)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
