"""Low-water marks: up to which position a line (a queue and a rank) is empty for good; claims look above it.

While a snapshot is open anywhere in the database (a dump, a forgotten transaction), claimed rows stay in the index as
dead rows. A claim that starts at the beginning of the line walks over all of them: this is how queues on PostgreSQL
die.

A mark is exact. One observation, in a snapshot S, notes the lowest visible position C of the line and the xmax X of S.
Which transaction could add a position below C later? Positions are drawn by transactions that have their number already
(every statement that draws one first inserts or deletes a row), so a transaction numbered X or higher drew after S, and
got more than C. A transaction below X may have drawn a lower position, and not have committed. Once the xmin of a later
observation has reached X, all of those transactions have ended, and their rows are visible in it: then nothing below
min(C, the lowest position visible now) can appear any more. Rows that others are claiming at the moment are still
visible, so a claim that is rolled back loses nothing. For an empty line, C is one more than the last position that was
drawn at the observation before S.

A transaction that writes for long holds xmin back. After WRITER_SECONDS the mark is advanced all the same. The
positions that it skips are noted in the database, and maintenance gives a new position to rows that appear below it
(`sweep`).

All this holds as long as one server answers. Behind a pooler another server may replace it unnoticed, such as a standby
whose sequence is behind. So from time to time the lines are verified from their beginning, and the marks are forgotten
if a job is below one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from msgspec import Struct

from jobq_core.errors import ClosedError, StorageError, StorageUnavailableError
from jobq_storage_postgres.binary import int2s, int8s, texts
from jobq_storage_postgres.database import Database
from jobq_storage_postgres.sql import Statements

_log = logging.getLogger("jobq.postgres")

RETURNED: Final = 101
"""The rank of the line of returned jobs."""
RANKS: Final = (RETURNED, *range(9, -10, -1))
"""The ranks of the lines of a queue, in the order of claiming."""
WRITER_SECONDS: Final = 2.0
"""How long a mark waits for a writing transaction to end."""
CLAIMS: Final = 2000
"""Number of claimed jobs after which the marks are advanced …"""
INTERVAL_SECONDS: Final = 0.5
"""… or time, if some jobs were claimed in it."""
VERIFY_SECONDS: Final = 60.0
"""Time between two verifications of the lines that are claimed from."""

_NO_MARK: Final = -(2**63)
"""Below all positions, those of rows that were edited by hand too."""

Line: TypeAlias = "tuple[str, int]"
"""A queue and a rank."""
Lines: TypeAlias = "tuple[bytes, bytes, bytes]"
"""Packed lines: queues, ranks and marks."""


class Observation(Struct, frozen=True):
    """The lines at one moment. horizon: the first transaction number that was not assigned yet (X above)."""

    at: float
    horizon: int
    lowest: dict[Line, int]


class Watermarks:
    """The marks of one storage object.

    It has 13 attributes: the marks and their packed form, the last observation, and the counters that say when the next
    one is due belong to one step, `note_claimed`.
    """

    def __init__(self, database: Database, statements: Statements, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._statements = statements
        self._clock = clock
        self._marks: dict[Line, int] = {}
        self._packed: dict[tuple[str, ...], Lines] = {}
        self._last: Observation | None = None
        self._last_drawn: int | None = None
        self._lost = database.pool.lost
        self._queues: dict[str, None] = {}
        self._claimed = 0
        self._advanced_at = self._verified_at = clock()
        self._task: asyncio.Task[None] | None = None

    def lines(self, queues: tuple[str, ...]) -> Lines:
        """Return the lines of queues in the order of claiming, packed."""
        if self._database.pool.lost != self._lost:
            # Another server may answer from now on, one whose sequences are behind.
            self.forget()
        packed = self._packed.get(queues)
        if packed is None:
            lines = [(queue, rank) for queue in dict.fromkeys(queues) for rank in RANKS]
            if len(self._packed) > 100:
                self._packed.clear()
            packed = self._packed[queues] = _pack(lines, [self._marks.get(line, _NO_MARK) for line in lines])
        return packed

    def forget(self) -> None:
        """Start again at the beginning of every line."""
        self._lost = self._database.pool.lost
        self._marks.clear()
        self._packed.clear()
        self._last = None
        self._last_drawn = None

    def note_claimed(self, queues: tuple[str, ...], count: int) -> None:
        """Count claimed jobs, and from time to time advance or verify the marks of their lines in the background."""
        self._claimed += count
        self._queues.update(dict.fromkeys(queues))
        if self._task is not None and not self._task.done():
            return
        if self._marks and self._clock() - self._verified_at >= VERIFY_SECONDS:
            self._verified_at = self._clock()
            self._task = asyncio.create_task(self._beside(self.verify()), name="jobq watermarks")
            return
        if not count:
            return
        if self._claimed < CLAIMS and self._clock() - self._advanced_at < INTERVAL_SECONDS:
            return
        self._claimed = 0
        self._advanced_at = self._clock()
        # All queues together: workers of one process may have other queues, and each observation follows the last one.
        self._task = asyncio.create_task(self._beside(self.advance(tuple(self._queues))), name="jobq watermarks")

    async def _beside(self, work: Awaitable[None]) -> None:
        try:
            await work
        except (StorageError, ClosedError) as error:
            # The marks stay where they are, which is slower and loses nothing. Only lasting failures are warnings.
            passing = isinstance(error, (StorageUnavailableError, ClosedError))
            _log.log(logging.DEBUG if passing else logging.WARNING, "could not advance the watermarks: %s", error)

    async def close(self) -> None:
        """Wait for an observation that is under way."""
        if self._task is not None:
            await self._task

    async def advance(self, queues: tuple[str, ...]) -> None:
        """Observe the lines of queues, and advance their marks as far as is safe."""
        lost = self._lost
        rows = await self._database.fetch(self._statements["lowest_positions"], self.lines(queues))
        if lost != self._database.pool.lost:
            return
        visible: dict[Line, int | None] = {(queue, rank): position for queue, rank, position, *_ in rows}
        _, _, _, xmin, xmax, drawn = rows[0]
        if self._last_drawn is not None and drawn < self._last_drawn:
            self.forget()  # the sequence went back: the database was restored
            return
        before, now = self._last, self._clock()
        if before is not None and before.lowest:
            skips = xmin < before.horizon
            if skips and now - before.at < WRITER_SECONDS:
                return
            advanced = self._advanced(before, visible)
            if skips and advanced:
                await self._note_skipped(advanced, before.horizon)
                if lost != self._database.pool.lost:
                    return
            if advanced:
                self._marks.update(advanced)
                self._packed.clear()
        lowest: dict[Line, int] = {}
        for line, position in visible.items():
            if position is not None:
                lowest[line] = position
            elif self._last_drawn is not None:
                lowest[line] = self._last_drawn + 1
        self._last = Observation(now, xmax, lowest)
        self._last_drawn = drawn

    def _advanced(self, before: Observation, visible: dict[Line, int | None]) -> dict[Line, int]:
        """Return the marks that two observations allow, where they are higher than the present ones."""
        marks = {
            line: min(lowest, position) - 1 if (position := visible[line]) is not None else lowest - 1
            for line, lowest in before.lowest.items()
            if line in visible
        }
        return {line: mark for line, mark in marks.items() if mark > self._marks.get(line, 0)}

    async def verify(self) -> None:
        """Observe all lines from their beginning; forget the marks if a job is below one."""
        marks = dict(self._marks)
        rows: list[Any] = await self._database.fetch(
            self._statements["lowest_positions"], _pack(list(marks), [0] * len(marks))
        )
        for queue, rank, position, *_ in rows:
            if position is not None and position <= marks[queue, rank]:
                _log.info("a job of queue %r was below the watermark; claims start again at the beginning", queue)
                self.forget()
                return

    async def _note_skipped(self, marks: dict[Line, int], horizon: int) -> None:
        params = *_pack(list(marks), list(marks.values())), int8s([horizon] * len(marks))
        await self._database.fetch(self._statements["note_skipped"], params)


def _pack(lines: list[Line], marks: list[int]) -> Lines:
    return texts([queue for queue, _ in lines]), int2s([rank for _, rank in lines]), int8s(marks)
