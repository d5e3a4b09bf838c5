"""Statistics by minute, by ten minutes and by hour, to which minutes are summed up.

Jobs that end while the clock is set back to a step that was summed up before are in its minutes only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from jobq_core.states import JobState
from jobq_core.storage import ReaderStorage, StatisticsRecord
from jobq_core.storage.statistics import STEPS, check_step
from jobq_core.timestamps import to_datetime
from jobq_storage_sqlite.depths import starts
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.slices import PAUSE_SECONDS
from jobq_storage_sqlite.tally import MINUTE, add_histograms, sum_histograms
from jobq_storage_sqlite.transaction import Transaction

READS: Final = {60: "", 600: "_by_600", 3600: "_by_3600"}
"""How the names of the statements end that read steps of so many seconds."""

OVER_MINUTES: Final = 1
"""How many minutes a step is over before it is summed up."""


class Statistics(StorageOnFile, ReaderStorage):
    """Reads statistics through the reader, in one statement: a step may be summed up at any time."""

    async def statistics(
        self,
        queue: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        step: int = 60,
        together: bool = False,
    ) -> list[StatisticsRecord]:
        now, minutes = self._moment().now, check_step(step) // 60
        first, end = starts(since, until, now, step)
        span = {"since": first * minutes, "until": end * minutes, "now": now // MINUTE}
        asked = {"queue": queue, "together": together, **span}
        if together:
            rows = await self._read("statistics_together" + READS[step], minutes=minutes, **asked)
            return [_to_record(minute, "", "", state, *sums) for minute, state, *sums in rows]
        rows = await self._read("statistics" + READS[step], **asked)
        return [_to_record(*row) for row in merge(rows, minutes)]


def merge(rows: Iterable[Any], minutes: int) -> list[Any]:
    """Return rows of statistics summed up to steps of so many minutes, by step, queue, kind and state."""
    merged: dict[tuple[int, str, str, str], Any] = {}
    for minute, queue, kind, state, *sums in rows:
        key = (minute - minute % minutes, queue, kind, state)
        before = merged.get(key)
        merged[key] = sums if before is None else _add(before, sums)
    return [(*key, *merged[key]) for key in sorted(merged)]


def _add(one: Any, two: Any) -> Any:
    jobs, waiting_seconds, running_seconds, waiting, running = one
    return (
        jobs + two[0],
        waiting_seconds + two[1],
        running_seconds + two[2],
        add_histograms(waiting, two[3]),
        add_histograms(running, two[4]),
    )


def _to_record(
    minute: int,
    queue: str,
    kind: str,
    state: str,
    jobs: int,
    waiting_seconds: float,
    running_seconds: float,
    waiting: str,
    running: str,
) -> StatisticsRecord:
    return StatisticsRecord(
        minute=to_datetime(minute * MINUTE),
        queue=queue,
        kind=kind,
        state=JobState(state),
        jobs=jobs,
        waiting_seconds=waiting_seconds,
        running_seconds=running_seconds,
        waiting=sum_histograms(waiting),
        running=sum_histograms(running),
    )


async def sum_up(storage: StorageOnFile) -> None:
    """Sum minutes up to steps of ten minutes, and those up to hours, each step in a transaction of its own."""
    for find, minutes, act in (("find_minute_to_sum", 10, sum_minutes), ("find_step_to_sum", 60, sum_steps)):
        while True:
            over = storage._moment().now // MINUTE - OVER_MINUTES
            # Looked for by the reader, which keeps nobody from writing.
            ((first,),) = await storage._read(find, until=over - over % minutes, now=over)
            if first is None:
                break
            await storage._write(act)
            await asyncio.sleep(PAUSE_SECONDS)


def sum_minutes(transaction: Transaction) -> None:
    """Sum up the minutes of the next step of ten minutes, of each queue and kind and of all together."""
    _sum(transaction, "find_minute_to_sum", "read_minutes", 10)


def sum_steps(transaction: Transaction) -> None:
    """Sum up the steps of the next hour."""
    _sum(transaction, "find_step_to_sum", "read_steps", 60)


def _sum(transaction: Transaction, find: str, read: str, minutes: int) -> None:
    over = transaction.now // MINUTE - OVER_MINUTES
    (first,) = transaction.one(find, until=over - over % minutes, now=over)
    if first is not None:  # another process may have done it
        start = first - first % minutes
        rows = transaction.all(read, start, start + minutes)
        if read == "read_minutes":
            rows = [*rows, *((minute, "", "", *rest) for minute, _, _, *rest in rows)]
        rows = merge(rows, minutes)
        transaction.many("insert_step", [(60 * minutes, *row) for row in rows])


def prune_statistics(transaction: Transaction, limit: int) -> None:
    """Delete up to `limit` rows of each step that is kept no longer. Those that are not summed up yet stay."""
    now = transaction.now // MINUTE
    for step, name in zip(STEPS, ("delete_tally", "delete_steps", "delete_hours"), strict=True):
        transaction.run(name, kept=now - STEPS[step] // 60, limit=limit, now=now)
        transaction.run("delete_depths", step, 60 * now - STEPS[step], limit)
