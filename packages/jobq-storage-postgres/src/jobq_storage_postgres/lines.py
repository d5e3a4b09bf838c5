"""`LineRegister`: registers the lines (a queue and a rank) that jobs are added to, for the claims."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from jobq_core.storage import NewJob
from jobq_storage_postgres.binary import int2s, texts
from jobq_storage_postgres.database import Database
from jobq_storage_postgres.protocol import Step
from jobq_storage_postgres.sql import Statements

Line: TypeAlias = "tuple[str, int]"
"""A queue and a rank: a priority, or 101 for returned jobs, which are claimed before those of all priorities."""

KEPT_SECONDS: Final = 300.0
"""How long a line is known to be registered; then it is looked up again, in case the tables were emptied."""
KEPT_LINES: Final = 100_000
"""How many lines are known to be registered."""


def register_step(statements: Statements, lines: set[Line]) -> Step:
    """Return the statement that registers lines."""
    return statements["register_lines"], (texts([queue for queue, _ in lines]), int2s([rank for _, rank in lines]))


class LineRegister:
    """The lines that one storage object knows to be registered."""

    def __init__(self, database: Database, statements: Statements, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._statements = statements
        self._clock = clock
        self._known: set[Line] = set()
        self._lost = database.pool.lost
        self._until = clock() + KEPT_SECONDS
        self._free = asyncio.Event()
        self._free.set()

    async def ensure(self, jobs: Sequence[NewJob]) -> None:
        """Register the lines of jobs that are not known to be registered. Call it before adding them.

        One call registers at a time, so that those which begin together register a line once; after a failure, the
        others try at the same time.
        """
        missing = self._missing(jobs)
        if missing and not self._free.is_set():
            await self._free.wait()
            missing = self._missing(jobs)
        if missing:
            self._free.clear()
            try:
                await self.register(missing)
            finally:
                self._free.set()

    def knows(self, jobs: Sequence[NewJob]) -> bool:
        """Return whether the lines of jobs are known to be registered. May be called from any thread."""
        return not self._missing(jobs)

    def _missing(self, jobs: Sequence[NewJob]) -> set[Line]:
        if self._database.pool.lost != self._lost or self._clock() >= self._until or len(self._known) > KEPT_LINES:
            # After a lost connection another server may answer, one that lacks the last transactions.
            self._lost = self._database.pool.lost
            self._until = self._clock() + KEPT_SECONDS
            self._known.clear()
        if len(jobs) == 1:
            line = jobs[0].queue, jobs[0].priority
            return set() if line in self._known else {line}
        return {(job.queue, job.priority) for job in jobs} - self._known

    async def register(self, lines: set[Line]) -> None:
        """Register lines, in a transaction of its own: a line without jobs does no harm."""
        lost = self._lost
        await self._database.fetch(*register_step(self._statements, lines))
        if lost == self._lost:
            self._known |= lines
