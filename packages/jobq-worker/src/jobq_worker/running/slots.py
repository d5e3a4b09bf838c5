"""The numbered slots of a worker: each runs one job at a time and counts how its runs ended.

A server shows each slot as one worker of its pool.
"""

from __future__ import annotations

import time
from uuid import UUID

import attrs

from jobq_core.records import WorkerStats
from jobq_core.states import Ending
from jobq_core.storage import ClaimedJob


@attrs.frozen(kw_only=True)
class SlotStats:
    """What one slot has done since the worker was made, and the job that it runs now (None while the slot is free).

    running_for: seconds since the present run started; 0 before its start.
    """

    number: int
    stats: WorkerStats
    job_id: UUID | None = None
    kind: str | None = None
    running_for: float = 0.0


@attrs.frozen(kw_only=True)
class PoolStats:
    """What one worker or server did since it was made, through stops, restarts and changes of its number of slots.

    total: the sums over all slots that it has and had, with the jobs of unknown kinds. `average_seconds` weighs each
        run alike, whichever slot ran it.
    workers: each present slot, numbered from 1, with its counts and its current job. A number that was dropped when the
        pool shrank starts from zero when the pool grows; its earlier counts are in the total.
    """

    total: WorkerStats
    workers: tuple[SlotStats, ...]


class Slot:
    """Room for one run at a time."""

    __slots__ = ("counts", "hung", "job", "number", "retired", "seconds", "started")

    def __init__(self, number: int) -> None:
        self.number = number
        self.retired = False
        self.hung = False
        self.job: ClaimedJob | None = None
        self.started = 0.0
        self.seconds = 0.0
        self.counts = dict.fromkeys(Ending, 0)

    def stats(self) -> WorkerStats:
        """Return the present counts."""
        counts = self.counts
        return WorkerStats(
            completed=counts[Ending.COMPLETE],
            failed=counts[Ending.FAIL],
            retried=counts[Ending.RETRY],
            aborted=counts[Ending.ABORT],
            disabled=counts[Ending.DISABLE],
            released=counts[Ending.RELEASE],
            snoozed=counts[Ending.SNOOZE],
            suspended=counts[Ending.SUSPEND],
            running=self.job is not None,
            busy_seconds=self.seconds,
        )

    def describe(self, now: float) -> SlotStats:
        """Return the counts and the present job. now: seconds of `time.monotonic`, as the event loop counts them."""
        job = self.job
        if job is None:
            return SlotStats(number=self.number, stats=self.stats())
        running_for = now - self.started if self.started else 0.0
        return SlotStats(number=self.number, stats=self.stats(), job_id=job.id, kind=job.kind, running_for=running_for)


class SharedSlot(Slot):
    """A slot that several runs share: its place in the pool is `real`, which is given back when the last run has ended.

    It is always `retired`, so that the pool treats it apart from its own slots at no cost to those.
    """

    __slots__ = ("hung_members", "members", "real")

    def __init__(self, real: Slot) -> None:
        super().__init__(real.number)
        self.real = real
        self.retired = True
        self.members = 0
        self.hung_members = 0

    def left(self) -> None:
        """Take note that a run has ended."""
        self.members -= 1


class Slots:
    """All slots of a worker, numbered from 1: the free ones, the busy ones, and the sums of the retired ones.

    max_hung: how many hung runs get a free slot in their place (None: as many as there are slots).
    """

    def __init__(self, count: int, max_hung: int | None = None) -> None:
        self._max_hung = max_hung
        self._slots: list[Slot] = []
        self._retired: list[Slot] = []
        self._past = WorkerStats()
        self.free: list[Slot] = []
        self.unstarted = Slot(0)
        """Counts jobs that ended without a slot: released, suspended, or past their deadline."""
        self.hung = 0
        """The number of runs whose handlers go on past their time limit."""
        self.lost = 0
        """The number of runs whose lease was over before they were settled."""
        self.unknown_kinds: dict[str, int] = {}
        self.unfit_kinds: dict[str, int] = {}
        self.resize(count)

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def used(self) -> int:
        """The number of slots that run a job, retired slots included."""
        return len(self._slots) - len(self.free) + len(self._retired)

    @property
    def exhausted(self) -> bool:
        """Whether more runs hang than get a free slot in their place."""
        return self.hung > (len(self._slots) if self._max_hung is None else self._max_hung)

    def hang(self, slot: Slot) -> None:
        """Count a run as hung. Unless too many hang, a free slot of the same number takes the place of its slot.

        A shared slot hangs when all its runs do.
        """
        if isinstance(slot, SharedSlot):
            slot.hung_members += 1
            if slot.hung_members == slot.members:
                self.hang(slot.real)
            return
        slot.hung = True
        self.hung += 1
        if self.exhausted or slot.retired:
            return
        free = Slot(slot.number)
        free.counts, slot.counts = slot.counts, free.counts
        free.seconds, slot.seconds = slot.seconds, 0.0
        self._slots[self._slots.index(slot)] = free
        self.free.append(free)
        slot.retired = True
        self._retired.append(slot)

    def resize(self, count: int) -> None:
        """Have this many slots. The highest numbers retire first; a busy slot retires when its run has ended."""
        while len(self._slots) > count:
            slot = self._slots.pop()
            slot.retired = True
            if slot.job is None:
                self.free.remove(slot)
                self._past += slot.stats()
            else:
                self._retired.append(slot)
        while len(self._slots) < count:
            self._slots.append(self._make(len(self._slots) + 1))

    def _make(self, number: int) -> Slot:
        """Return the retired slot of this number if it still runs a job, or a new free one."""
        for slot in self._retired:
            if slot.number == number and not slot.hung:
                slot.retired = False
                self._retired.remove(slot)
                return slot
        slot = Slot(number)
        self.free.insert(0, slot)
        return slot

    def give_back(self, slot: Slot) -> None:
        """Free the slot of a run that has ended."""
        slot.job, slot.started = None, 0.0
        if slot.hung:
            slot.hung = False
            self.hung -= 1
        if not slot.retired:
            self.free.append(slot)
        elif isinstance(slot, SharedSlot):
            slot.left()
            if slot.members == 0:
                self.give_back(slot.real)
        else:
            self._retired.remove(slot)
            self._past += slot.stats()

    def count(self, slot: Slot | None, ending: Ending, seconds: float) -> None:
        """Count a settled run of so many seconds, where it ran."""
        slot = slot or self.unstarted
        slot.counts[ending] += 1
        slot.seconds += seconds
        if not slot.retired:
            return
        if isinstance(slot, SharedSlot):
            self.count(slot.real, ending, seconds)
        elif slot.job is None:
            # The slot's counts were added up when it retired; this one came later.
            late = Slot(slot.number)
            late.counts[ending] += 1
            late.seconds += seconds
            self._past += late.stats()

    def stats(self) -> WorkerStats:
        """Return the sums over all present and retired slots. May be called from any thread."""
        total = self._past + self.unstarted.stats()
        for slot in [*self._slots, *self._retired]:
            total += slot.stats()
        return total + WorkerStats(
            hung=self.hung,
            slots=len(self._slots),
            unknown_kinds=dict(self.unknown_kinds),
            unfit_kinds=dict(self.unfit_kinds),
        )

    def each(self) -> list[SlotStats]:
        """Return the counts and the present job of each slot."""
        now = time.monotonic()
        return [slot.describe(now) for slot in self._slots]
