"""Low-water marks: up to which position a line (a queue and a priority) is empty for good; claims look above it.

While a snapshot is open somewhere in the database (a dump, a forgotten transaction), claimed rows stay in the index
as dead ones, and a claim that starts at the beginning of the line walks over all of them: this is how queues on
PostgreSQL die.

A mark is exact. At one look, in a snapshot S, the lowest visible position C of the line is noted with S's xmax X. Who
could add a position below C later? Positions are drawn by transactions that have their number already (every
statement that draws one first inserts or deletes something), so a transaction numbered X or higher drew after S, and
got more than C. One below X may have drawn less and not have committed. Once a later look's xmin has reached X, all
of those have ended, and what they added is visible in it: then nothing below min(C, the lowest visible now) can turn
up any more. Rows that others are just claiming are still visible, so a claim that is rolled back loses nothing. For
an empty line C is one more than what was the last position drawn at the look before S.

A transaction that writes for long holds xmin back. Then, after PATIENCE seconds, the mark is moved all the same, what
it passes is noted in the database, and maintenance gives a new position to whatever turns up below (`sweep`).

All this holds as long as it is one server that answers. Behind a pooler another one may take its place unseen, a
standby whose sequence is behind; so from time to time the lines are looked at from their beginning, and a mark that has
a job below it is forgotten.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from msgspec import Struct

from jobq_core.errors import ClosedError, StorageError, StorageUnavailableError
from jobq_storage_postgres.binary import int2s, int8s, texts
from jobq_storage_postgres.database import Database
from jobq_storage_postgres.sql import Statements

_log = logging.getLogger("jobq.postgres")

PRIORITIES: Final = range(9, -10, -1)
"""Highest first, as they are claimed."""
PATIENCE: Final = 2.0
"""Seconds that a mark waits for a writing transaction to end."""
CLAIMS: Final = 2000
"""After so many claimed jobs the line is looked at again …"""
INTERVAL: Final = 0.5
"""… or after so many seconds in which some were claimed."""

DOUBT: Final = 60.0
"""Seconds after which the lines are looked at from their beginning, if some were claimed from or asked in vain."""

_NO_MARK: Final = -(2**63)
"""Below all positions, those of rows that somebody wrote by hand too."""

Line: TypeAlias = "tuple[str, int]"
Lines: TypeAlias = "tuple[bytes, bytes, bytes]"


class Look(Struct, frozen=True):
    """What was seen: when, the first transaction number that was not given out yet, and the lowest position by line."""

    at: float
    horizon: int
    lowest: dict[Line, int]


class Marks:
    """The marks of one storage object."""

    def __init__(self, database: Database, statements: Statements, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._statements = statements
        self._clock = clock
        self._marks: dict[Line, int] = {}
        self._packed: dict[tuple[str, ...], Lines] = {}
        self._look: Look | None = None
        self._last: int | None = None
        self._lost = database.lost
        self._queues: dict[str, None] = {}
        self._claimed = 0
        self._looked_at = self._doubted_at = clock()
        self._looking: asyncio.Task[None] | None = None

    def lines(self, queues: tuple[str, ...]) -> Lines:
        """Return the lines of queues in the order of claiming, packed: queues, priorities, marks."""
        if self._database.lost != self._lost:
            # Another server may answer from now on, one whose sequences are behind.
            self.forget()
        packed = self._packed.get(queues)
        if packed is None:
            lines = [(queue, priority) for queue in dict.fromkeys(queues) for priority in PRIORITIES]
            if len(self._packed) > 100:
                self._packed.clear()
            packed = self._packed[queues] = self._pack(lines)
        return packed

    def _pack(self, lines: list[Line]) -> Lines:
        return (
            texts([queue for queue, _ in lines]),
            int2s([priority for _, priority in lines]),
            int8s([self._marks.get(line, _NO_MARK) for line in lines]),
        )

    def forget(self) -> None:
        """Start anew from the beginning of every line."""
        self._lost = self._database.lost
        self._marks.clear()
        self._packed.clear()
        self._look = None
        self._last = None

    def note_claimed(self, queues: tuple[str, ...], count: int) -> None:
        """Count claimed jobs, none too, and look at their lines from time to time, beside the claims."""
        self._claimed += count
        self._queues.update(dict.fromkeys(queues))
        if self._looking is not None and not self._looking.done():
            return
        if self._marks and self._clock() - self._doubted_at >= DOUBT:
            self._doubted_at = self._clock()
            self._looking = asyncio.create_task(self._beside(self.doubt()), name="jobq marks")
            return
        if not count:
            return
        if self._claimed < CLAIMS and self._clock() - self._looked_at < INTERVAL:
            return
        self._claimed = 0
        self._looked_at = self._clock()
        # At all at once: workers of one process may have other queues, and each look follows up on the last.
        self._looking = asyncio.create_task(self._beside(self.look(tuple(self._queues))), name="jobq marks")

    async def _beside(self, look: Awaitable[None]) -> None:
        try:
            await look
        except (StorageError, ClosedError) as error:
            # The marks stay where they are, which is slower and loses nothing. What does not pass is told.
            passing = isinstance(error, (StorageUnavailableError, ClosedError))
            _log.log(logging.DEBUG if passing else logging.WARNING, "the marks were not moved: %s", error)

    async def close(self) -> None:
        """Wait for a look that is under way."""
        if self._looking is not None:
            await self._looking

    async def look(self, queues: tuple[str, ...]) -> None:
        """Look at the lines of queues, and move their marks as far as is safe."""
        lost = self._lost
        rows = await self._database.fetch(self._statements["lowest_positions"], self.lines(queues))
        if lost != self._database.lost:
            return
        visible: dict[Line, int | None] = {(queue, priority): position for queue, priority, position, *_ in rows}
        _, _, _, xmin, xmax, last = rows[0]
        if self._last is not None and last < self._last:
            self.forget()  # the sequence went back: this is a restored database
            return
        before, now = self._look, self._clock()
        if before is not None and before.lowest:
            if xmin < before.horizon and now - before.at < PATIENCE:
                return
            moved = {
                line: min(lowest, position) - 1 if (position := visible[line]) is not None else lowest - 1
                for line, lowest in before.lowest.items()
                if line in visible
            }
            moved = {line: mark for line, mark in moved.items() if mark > self._marks.get(line, 0)}
            if xmin < before.horizon and moved:
                await self._pass(moved, before.horizon)
                if lost != self._database.lost:
                    return
            if moved:
                self._marks.update(moved)
                self._packed.clear()
        lowest: dict[Line, int] = {}
        for line, position in visible.items():
            if position is not None:
                lowest[line] = position
            elif self._last is not None:
                lowest[line] = self._last + 1
        self._look = Look(now, xmax, lowest)
        self._last = last

    async def doubt(self) -> None:
        """Look at all lines from their beginning; forget the marks if a job is below one."""
        marks = dict(self._marks)
        params = (
            texts([queue for queue, _ in marks]),
            int2s([priority for _, priority in marks]),
            int8s([0] * len(marks)),
        )
        rows = await self._database.fetch(self._statements["lowest_positions"], params)
        for queue, priority, position, *_ in rows:
            if position is not None and position <= marks[queue, priority]:
                _log.info("a job of queue %s was below the mark; its lines are looked at anew", queue)
                self.forget()
                return

    async def _pass(self, marks: dict[Line, int], horizon: int) -> None:
        await self._database.fetch(
            self._statements["note_skipped"],
            (
                texts([queue for queue, _ in marks]),
                int2s([priority for _, priority in marks]),
                int8s(list(marks.values())),
                int8s([horizon] * len(marks)),
            ),
        )
