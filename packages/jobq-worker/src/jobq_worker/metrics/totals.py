"""`EndedTotals`: running totals of the jobs that ended, made from the statistics of minutes that a storage keeps.

Prometheus wants counters that only grow. Each reading of the last minutes replaces what an earlier one brought for the
same minutes, and minutes that are too old to change are added up for good.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from jobq_core.states import JobState
from jobq_core.storage import StatisticsRecord
from jobq_worker.metrics.labels import Labels

OPEN_MINUTES: Final = 3
"""How many minutes before now may still change: by transactions that are committed late."""
MAX_GAP: Final = timedelta(hours=1)
"""How far back the totals are continued after a time in which nobody read them; minutes before that are left out."""

Key: TypeAlias = tuple[str, str, JobState]


class Total:
    """The jobs of one queue and kind that ended in one state: their number, and how long they waited and ran."""

    def __init__(self) -> None:
        self.jobs = 0
        self.waiting_seconds = 0.0
        self.running_seconds = 0.0
        self.waiting: Counter[int] = Counter()
        self.running: Counter[int] = Counter()

    def add(self, record: StatisticsRecord) -> None:
        """Add the jobs of one minute."""
        self.jobs += record.jobs
        self.waiting_seconds += record.waiting_seconds
        self.running_seconds += record.running_seconds
        self.waiting.update(record.waiting)
        self.running.update(record.running)

    def merge(self, other: Total) -> Total:
        """Add the jobs of another total, and return this one."""
        self.jobs += other.jobs
        self.waiting_seconds += other.waiting_seconds
        self.running_seconds += other.running_seconds
        self.waiting.update(other.waiting)
        self.running.update(other.running)
        return self


class EndedTotals:
    """The totals since the first reading, by queue, kind and state. queues, kinds: bound their names."""

    def __init__(self, queues: Labels, kinds: Labels) -> None:
        self._queues = queues
        self._kinds = kinds
        self._closed: dict[Key, Total] = {}
        self._open: list[StatisticsRecord] = []
        self._closed_until: datetime | None = None

    def since(self, now: datetime) -> datetime:
        """Return from when on to read statistics."""
        recent = _minute(now) - timedelta(minutes=OPEN_MINUTES)
        if self._closed_until is None or now - self._closed_until > MAX_GAP:
            self._close(recent)
            self._closed_until = recent
        return self._closed_until

    def take(self, records: Iterable[StatisticsRecord], now: datetime) -> None:
        """Take the statistics of the minutes from `since(now)` on."""
        self._open = list(records)
        self._close(_minute(now) - timedelta(minutes=OPEN_MINUTES))

    def _close(self, until: datetime) -> None:
        """Add the minutes before `until` up for good."""
        for record in self._open:
            if record.minute < until:
                self._add(self._closed, record)
        self._open = [record for record in self._open if record.minute >= until]
        self._closed_until = until

    def _add(self, totals: dict[Key, Total], record: StatisticsRecord) -> None:
        key = (self._queues.of(record.queue), self._kinds.of(record.kind), record.state)
        totals.setdefault(key, Total()).add(record)

    def read(self) -> dict[Key, Total]:
        """Return the totals."""
        totals = {key: Total().merge(total) for key, total in self._closed.items()}
        for record in self._open:
            self._add(totals, record)
        return totals


def _minute(now: datetime) -> datetime:
    return now.replace(second=0, microsecond=0)
