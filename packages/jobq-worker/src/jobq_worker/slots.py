"""The numbered slots of a worker: each runs one job at a time, and counts what it did.

The numbers are for those who look on: a server shows each slot as one worker of its pool.
"""

from __future__ import annotations

import time
from uuid import UUID

import attrs

from jobq_core.records import WorkerStats
from jobq_core.states import Ending
from jobq_worker.run import Run


@attrs.frozen(kw_only=True)
class SlotStats:
    """What one slot did since the worker was made, and what it runs now (job_id and kind: None while it is free).

    running_for: seconds since the present run began; 0 before it did.
    """

    number: int
    stats: WorkerStats
    job_id: UUID | None = None
    kind: str | None = None
    running_for: float = 0.0


class Slot:
    """A place for one run at a time."""

    __slots__ = ("counts", "number", "retired", "run", "seconds")

    def __init__(self, number: int) -> None:
        self.number = number
        self.retired = False
        self.run: Run | None = None
        self.seconds = 0.0
        self.counts = dict.fromkeys(Ending, 0)

    def stats(self) -> WorkerStats:
        """Return the counts as they stand."""
        counts = self.counts
        return WorkerStats(
            completed=counts[Ending.COMPLETE],
            failed=counts[Ending.FAIL],
            retried=counts[Ending.RETRY],
            aborted=counts[Ending.ABORT],
            disabled=counts[Ending.DISABLE],
            released=counts[Ending.RELEASE],
            running=self.run is not None,
            busy_seconds=self.seconds,
        )


class Slots:
    """All slots of a worker: numbered from 1, the free ones at hand, the retired ones remembered in the sums."""

    def __init__(self, count: int) -> None:
        self._slots: list[Slot] = []
        self._retired: list[Slot] = []
        self._past = WorkerStats()
        self.free: list[Slot] = []
        self.unstarted = Slot(0)
        """Counts what ended without ever having had a slot: jobs handed back, jobs past their deadline."""
        self.unknown_kinds: dict[str, int] = {}
        self.resize(count)

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def used(self) -> int:
        """How many runs hold a slot, those of retired slots included."""
        return len(self._slots) - len(self.free) + len(self._retired)

    def resize(self, count: int) -> None:
        """Have this many slots. Those with the highest numbers go first; a busy one goes when its run has ended."""
        while len(self._slots) > count:
            slot = self._slots.pop()
            slot.retired = True
            if slot.run is None:
                self.free.remove(slot)
                self._past += slot.stats()
            else:
                self._retired.append(slot)
        while len(self._slots) < count:
            self._slots.append(self._come_back(len(self._slots) + 1))

    def _come_back(self, number: int) -> Slot:
        for slot in self._retired:
            if slot.number == number:
                slot.retired = False
                self._retired.remove(slot)
                return slot
        slot = Slot(number)
        self.free.insert(0, slot)
        return slot

    def give_back(self, slot: Slot) -> None:
        """Make a slot free whose run has ended."""
        slot.run = None
        if slot.retired:
            self._retired.remove(slot)
            self._past += slot.stats()
        else:
            self.free.append(slot)

    def count(self, run: Run, ending: Ending) -> None:
        """Count how a run ended, once the storage has said so."""
        slot = run.slot or self.unstarted
        slot.counts[ending] += 1
        slot.seconds += run.seconds
        if slot.retired and slot.run is None:
            # The slot's sums were taken when it went; what came after is added by itself.
            late = Slot(slot.number)
            late.counts[ending] += 1
            late.seconds += run.seconds
            self._past += late.stats()

    def stats(self) -> WorkerStats:
        """Return the sums over all slots there are and were. May be called from any thread."""
        total = self._past + self.unstarted.stats()
        for slot in [*self._slots, *self._retired]:
            total += slot.stats()
        return total + WorkerStats(unknown_kinds=dict(self.unknown_kinds))

    def each(self) -> list[SlotStats]:
        """Return what each slot did and does."""
        now = time.monotonic()
        return [_look(slot, now) for slot in self._slots]


def _look(slot: Slot, now: float) -> SlotStats:
    run = slot.run
    if run is None:
        return SlotStats(number=slot.number, stats=slot.stats())
    return SlotStats(
        number=slot.number,
        stats=slot.stats(),
        job_id=run.job.id,
        kind=run.job.kind,
        running_for=now - run.started if run.started else 0.0,
    )
