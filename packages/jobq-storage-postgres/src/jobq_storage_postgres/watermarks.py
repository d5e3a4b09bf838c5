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

Claims look only at lines that were ever used, of queues that are not paused. A claim takes nothing if a line of its
queues was registered by a transaction that the last reading did not see; pausing or resuming a queue counts as that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from msgspec import Struct

from jobq_core.errors import ClosedError, StorageError, StorageUnavailableError
from jobq_core.storage import WAITING_TOPIC
from jobq_core.storage import Line as ClaimLine
from jobq_storage_postgres.binary import int2s, int4s, int8s, pack_int8, texts
from jobq_storage_postgres.database import Database
from jobq_storage_postgres.lines import Line
from jobq_storage_postgres.sql import Statements

_log = logging.getLogger("jobq.postgres")

WRITER_SECONDS: Final = 2.0
"""How long a mark waits for a writing transaction to end."""
CLAIMS: Final = 2000
"""Number of claimed jobs after which the marks are advanced …"""
INTERVAL_SECONDS: Final = 0.5
"""… or time, if some jobs were claimed in it."""
VERIFY_SECONDS: Final = 60.0
"""Time between two verifications of the lines that are claimed from, and between two readings of which are used."""

_NO_MARK: Final = -(2**63)
"""Below all positions, those of rows that were edited by hand too."""


class Lines(Struct, frozen=True):
    """The lines of a claim, as its parameters.

    asked: the names of the queues. queues, ranks, marks: those of each line, in the order of claiming. limits: that of
    each line's queue; None if no queue has one. known: since which transaction number lines may be new to the last
    reading, and the transactions from it on whose lines it did see. paused: which of the queues are paused.
    """

    asked: bytes
    queues: bytes
    ranks: bytes
    marks: bytes
    limits: bytes | None
    known: tuple[bytes, bytes]
    paused: tuple[str, ...]


class Observation(Struct, frozen=True):
    """The lines at one moment. horizon: the first transaction number that was not assigned yet (X above)."""

    at: float
    horizon: int
    lowest: dict[Line, int]


class Watermarks:
    """The lines and marks of one storage object.

    It has more than 12 attributes: the lines with their pauses, marks and packed form, the last observation, and the
    counters that say when the next one is due belong to one step, `note_claimed`.
    """

    def __init__(
        self,
        database: Database,
        statements: Statements,
        notify: Callable[[Iterable[str]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._statements = statements
        self._notify = notify
        self._clock = clock
        self._ranks: dict[str, list[int]] = {}
        self._recent: dict[str, set[int]] = {}
        self._paused: set[str] = set()
        self._horizon = 0
        self._marks: dict[Line, int] = {}
        self._packed: dict[tuple[ClaimLine, ...], Lines] = {}
        self._last: Observation | None = None
        self._last_drawn: int | None = None
        self._lost = database.pool.lost
        self._claimed = 0
        self._advanced_at = self._verified_at = clock()
        self._task: asyncio.Task[None] | None = None

    async def lines(self, lines: tuple[ClaimLine, ...]) -> Lines:
        """Return the lines of queues in the order of claiming, packed."""
        if self._database.pool.lost != self._lost:
            # Another server may answer from now on, one whose sequences are behind.
            self.forget()
        packed = self._packed.get(lines)
        if packed is None:
            new = {line.queue for line in lines} - self._ranks.keys()
            if new:
                await self.read(new)
            if len(self._packed) > 100:
                self._packed.clear()
            packed = self._packed[lines] = self._pack(lines)
        return packed

    def _pack(self, lines: tuple[ClaimLine, ...]) -> Lines:
        asked: dict[str, int | None] = {}
        for line in lines:  # several lines of one queue are one, with the sum of their limits
            before = asked.get(line.queue, 0)
            asked[line.queue] = None if before is None or line.limit is None else before + line.limit
        flat = [(queue, rank) for queue in asked if queue not in self._paused for rank in self._ranks.get(queue, ())]
        recent: set[int] = set().union(*(self._recent.get(queue, ()) for queue in asked))
        return Lines(
            texts(list(asked)),
            texts([queue for queue, _ in flat]),
            int2s([rank for _, rank in flat]),
            int8s([self._marks.get(line, _NO_MARK) for line in flat]),
            int4s.sparse([asked[queue] for queue, _ in flat]),
            (pack_int8(self._horizon), int8s(sorted(recent))),
            tuple(queue for queue in asked if queue in self._paused),
        )

    async def read(self, queues: Iterable[str] = ()) -> None:
        """Read which lines of the known queues, and of these, were ever used, and which of the queues are paused."""
        asked = self._ranks.keys() | queues
        rows: list[Any] = await self._database.fetch(self._statements["lines"], (texts(list(asked)),))
        ranks: dict[str, set[int]] = {queue: set() for queue in asked}
        recent: dict[str, set[int]] = {queue: set() for queue in asked}
        paused: set[str] = set()
        for _, queue, rank, registered, is_paused in rows:
            if queue is None:
                continue
            if rank is not None:
                ranks[queue].add(rank)
            if registered is not None:
                recent[queue].add(registered)
            if is_paused:
                paused.add(queue)
        # Another reading may have ended meanwhile: each is right by itself.
        self._ranks = {queue: sorted(found, reverse=True) for queue, found in ranks.items()}
        self._recent = recent
        self._paused = paused
        self._horizon = rows[0][0]
        self._packed.clear()

    def forget(self) -> None:
        """Start again at the beginning of every line."""
        self._lost = self._database.pool.lost
        self._ranks.clear()
        self._marks.clear()
        self._packed.clear()
        self._last = None
        self._last_drawn = None

    def note_claimed(self, count: int) -> None:
        """Count claimed jobs, and from time to time advance or verify the marks of the lines in the background."""
        self._claimed += count
        if self._task is not None and not self._task.done():
            return
        if self._clock() - self._verified_at >= VERIFY_SECONDS:
            self._verified_at = self._clock()
            self._task = asyncio.create_task(self._beside(self.verify()), name="jobq watermarks")
            return
        if not count:
            return
        if self._claimed < CLAIMS and self._clock() - self._advanced_at < INTERVAL_SECONDS:
            return
        self._claimed = 0
        self._advanced_at = self._clock()
        self._task = asyncio.create_task(self._beside(self.advance()), name="jobq watermarks")

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

    async def advance(self) -> None:
        """Observe all lines, and advance their marks as far as is safe.

        All queues together: workers of one process may have other queues, and each observation follows the last one.
        """
        lost = self._lost
        marks = {
            (queue, rank): self._marks.get((queue, rank), _NO_MARK)
            for queue, ranks in self._ranks.items()
            for rank in ranks
        }
        if not marks:
            return
        rows = await self._database.fetch(self._statements["lowest_positions"], _pack(marks))
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
        """Read which lines are used, and observe all from their beginning; forget the marks if a job is below one."""
        await self.read()
        marks = dict(self._marks)
        if not marks:
            return
        rows: list[Any] = await self._database.fetch(
            self._statements["lowest_positions"], _pack(dict.fromkeys(marks, 0))
        )
        for queue, rank, position, *_ in rows:
            if position is not None and position <= marks[queue, rank]:
                _log.info("a job of queue %r was below the watermark; claims start again at the beginning", queue)
                self.forget()
                return

    async def _note_skipped(self, marks: dict[Line, int], horizon: int) -> None:
        params = *_pack(marks), int8s([horizon] * len(marks))
        await self._database.fetch(self._statements["note_skipped"], params)
        # The worker that does the maintenance promotes now, and again every half second until nothing can appear there.
        self._notify([WAITING_TOPIC])


def _pack(marks: dict[Line, int]) -> tuple[bytes, bytes, bytes]:
    return texts([queue for queue, _ in marks]), int2s([rank for _, rank in marks]), int8s(list(marks.values()))
