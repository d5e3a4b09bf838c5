"""The optional facet of logs: what handlers logged, kept with their jobs.

A storage need not have it: see `QueueStorage.facet`. The lines of one run come in parts, each the lines since the part
before. The worker bounds what it keeps; the storage keeps what it is given.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Struct

from jobq_core.encoding import decode_or_show


class LogLine(Struct, frozen=True, array_like=True):
    """One record that a handler logged. It may be of several lines of text, as one with a traceback is.

    at: when it was logged, by the storage's clock. level: the level's name, such as 'INFO'. logger: the logger's name.
    Texts have neither NUL characters nor lone surrogates.
    """

    at: datetime
    level: str
    logger: str
    message: str


class LogPart(Struct, frozen=True, kw_only=True):
    """Lines that one run logged, in the order in which they were logged.

    lease, attempt: those of the run. part: the number of the part within its run, from 0. at: when it was written.
    """

    job: UUID
    lease: int
    attempt: int
    part: int
    lines: tuple[LogLine, ...]
    at: datetime | None = None

    @property
    def place(self) -> LogPlace:
        """Where it is among the parts of its job."""
        return self.lease, self.part


LogPlace: TypeAlias = tuple[int, int]
"""The lease and the number of a part: parts are in this order."""

_lines: Final = msgspec.json.Decoder(tuple[LogLine, ...])


def encode_lines(lines: Sequence[LogLine]) -> bytes:
    """Return lines as JSON."""
    return msgspec.json.encode(lines)


def decode_lines(data: bytes | str, at: datetime) -> tuple[LogLine, ...]:
    """Return the lines of JSON; what cannot be read, as after an edit by hand, is one line. at: the time of that."""
    try:
        return _lines.decode(data)
    except (msgspec.DecodeError, UnicodeError):
        return (LogLine(at, "", "", str(decode_or_show(data))),)


class LogStorage(abc.ABC):
    """What keeps the lines that handlers logged."""

    @abc.abstractmethod
    async def write_logs(self, parts: Sequence[LogPart]) -> None:
        """Keep parts of the logs of runs; `at` is replaced by the storage's now.

        A part that is there already stays as it is, so that the call can be repeated. A part of a job that does not
        exist is left out. Neither the state nor the lease of the job counts: what an earlier run logged is kept too.
        The logs of a job stay while the job does: they are removed with it by `delete`, `clear` and `prune`, and
        `retry` keeps them. Parts that are written while their job is being removed are never read.
        """

    @abc.abstractmethod
    async def read_logs(
        self,
        job: UUID,
        *,
        attempt: int | None = None,
        after: LogPlace | None = None,
        before: LogPlace | None = None,
        limit: int = 100,
    ) -> list[LogPart]:
        """Return parts of the logs of a job, oldest first: of those between the places `after` and `before`, without
        these, the last ones, at most `limit`. Without logs, and of a job that does not exist, there are none.

        attempt: of the runs of this attempt only. An attempt that was given back, as by a snooze, has several runs.
        """
