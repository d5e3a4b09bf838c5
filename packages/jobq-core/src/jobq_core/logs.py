"""Reading what the handlers of a job logged, where the storage keeps logs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from jobq_core.storage import LogPart, LogPlace, LogStorage, QueueStorage

PAGE: Final = 100
"""The number of parts that one call reads."""


class LoggedLine(Struct, frozen=True, kw_only=True):
    """One record that a handler logged, as `LogLine`, and the run that it belongs to."""

    attempt: int
    lease: int
    at: datetime
    level: str
    logger: str
    message: str


def to_lines(parts: Iterable[LogPart]) -> list[LoggedLine]:
    """Return the lines of parts, in their order."""
    return [
        LoggedLine(
            attempt=part.attempt,
            lease=part.lease,
            at=line.at,
            level=line.level,
            logger=line.logger,
            message=line.message,
        )
        for part in parts
        for line in part.lines
    ]


def log_storage(storage: QueueStorage) -> LogStorage:
    """Return a storage as one that keeps logs. Raises ConfigurationError if it does not."""
    return storage.facet(LogStorage, "reading logs")  # type: ignore[type-abstract]


async def read_parts(
    storage: QueueStorage, job: UUID, *, attempt: int | None = None, after: LogPlace | None = None
) -> list[LogPart]:
    """Return all parts of the logs of a job, oldest first, PAGE per query: those of an attempt, or of all, and those
    behind a place. Raises ConfigurationError for a storage that keeps no logs."""
    logs = log_storage(storage)
    pages: list[list[LogPart]] = []
    before: LogPlace | None = None
    while True:
        page = await logs.read_logs(job, attempt=attempt, after=after, before=before, limit=PAGE)
        pages.append(page)
        if len(page) < PAGE:
            return [part for each in reversed(pages) for part in each]
        before = page[0].place


async def has_logs(storage: QueueStorage, job: UUID) -> bool:
    """Return whether there are logs of a job; False for a storage that keeps none."""
    return isinstance(storage, LogStorage) and bool(await storage.read_logs(job, limit=1))
