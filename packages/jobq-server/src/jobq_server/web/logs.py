"""The logs of a job, as its page and the API show them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final
from uuid import UUID

import attrs

from jobq_core.logs import LoggedLine, to_lines
from jobq_core.storage import LogPart, LogStorage, QueueStorage

PARTS: Final = 100
"""The number of parts that a page reads."""
SHOWN_BYTES: Final = 128 * 1024
"""About the most text that a page shows: the logs of two attempts at least."""


@attrs.frozen
class RunLogs:
    """The lines of one run."""

    attempt: int
    lease: int
    lines: list[LoggedLine]


@attrs.frozen
class JobLogs:
    """The last lines of a job by their runs, the last run first. cut: whether there are earlier ones."""

    runs: list[RunLogs]
    cut: bool


async def read_job_logs(storage: QueueStorage, job: UUID) -> JobLogs:
    """Return the logs of a job, as much as a page shows; none for a storage that keeps none."""
    if not isinstance(storage, LogStorage):
        return JobLogs([], False)
    parts = await storage.read_logs(job, limit=PARTS)
    last = _last(parts)
    by_run = [list(lines) for _, lines in groupby(to_lines(last), lambda line: line.lease)]
    runs = [RunLogs(lines[0].attempt, lines[0].lease, lines) for lines in reversed(by_run)]
    return JobLogs(runs, len(last) < len(parts) or len(parts) == PARTS)


def _last(parts: Sequence[LogPart]) -> Sequence[LogPart]:
    """Return the last parts, of SHOWN_BYTES or a little more."""
    size = 0
    for index in range(len(parts) - 1, -1, -1):
        size += sum(len(line.message) + len(line.logger) for line in parts[index].lines)
        if size >= SHOWN_BYTES:
            return parts[index:]
    return parts
