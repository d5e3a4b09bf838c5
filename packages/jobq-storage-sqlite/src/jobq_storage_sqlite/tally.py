"""The statistics and the counts of finished jobs: gathered in a transaction, and written once before its commit."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, TypeAlias

import msgspec

from jobq_core.storage import Histogram, bucket_of
from jobq_core.storage.statistics import add_histograms as sum_of
from jobq_core.timestamps import SECOND
from jobq_storage_sqlite.caller_cursors import Runner
from jobq_storage_sqlite.sql import sql

MINUTE: Final = 60 * SECOND

_decode: Final = msgspec.json.Decoder(dict[int, int]).decode
_decode_all: Final = msgspec.json.Decoder(list[dict[int, int]]).decode
_encode: Final = msgspec.json.Encoder().encode


Ended: TypeAlias = tuple[str, str, str, int, list[int], list[int]]
"""Some jobs that ended: their queue, kind, state and number; the microseconds that each waited and ran, if it ran."""


class Tally:
    """The additions of a transaction to the counts of finished jobs and to the statistics.

    ended: the jobs that ended. left: how many finished jobs were removed or put back, by queue, state and kind.
    """

    __slots__ = ("ended", "left")

    def __init__(self) -> None:
        self.ended: list[Ended] = []
        self.left: list[tuple[str, str, str, int]] = []

    def mark(self) -> tuple[int, int]:
        """Return what `undo` needs to forget all that is noted from now on."""
        return len(self.ended), len(self.left)

    def undo(self, mark: tuple[int, int]) -> None:
        """Forget what was noted since the mark."""
        del self.ended[mark[0] :]
        del self.left[mark[1] :]

    def write(self, connection: Runner, now: int) -> None:
        """Write what was noted."""
        if not self.ended and not self.left:
            return
        changes: dict[tuple[str, str, str], int] = {}
        for queue, state, kind, jobs in self.left:
            changes[queue, state, kind] = changes.get((queue, state, kind), 0) - jobs
        for queue, kind, state, jobs, _, _ in self.ended:
            changes[queue, state, kind] = changes.get((queue, state, kind), 0) + jobs
        connection.executemany(sql("count"), [(*key, jobs) for key, jobs in changes.items() if jobs])
        _write(connection, now // MINUTE, self.ended)


def _write(connection: Runner, minute: int, ended: list[Ended]) -> None:
    merged: dict[tuple[str, str, str], tuple[list[int], list[int], list[int]]] = {}
    for queue, kind, state, jobs, waited, ran in ended:
        all_jobs, all_waited, all_ran = merged.setdefault((queue, kind, state), ([], [], []))
        all_jobs.append(jobs)
        all_waited += waited
        all_ran += ran
    for (queue, kind, state), (all_jobs, all_waited, all_ran) in merged.items():
        stored = connection.execute(sql("read_tally"), (minute, queue, kind, state)).fetchone()
        waiting, running = (None, None) if stored is None else stored
        connection.execute(
            sql("tally"),
            (
                minute,
                queue,
                kind,
                state,
                sum(all_jobs),
                sum(all_waited) / SECOND,
                sum(all_ran) / SECOND,
                _add(waiting, all_waited),
                _add(running, all_ran),
            ),
        )


def _add(stored: str | None, durations: list[int]) -> str:
    """Add durations, in microseconds, to a stored histogram."""
    histogram = {} if stored is None else to_histogram(stored)
    # Jobs that were added, or claimed, together have equal durations.
    for duration, count in Counter(durations).items():
        bucket = bucket_of(duration / SECOND)
        histogram[bucket] = histogram.get(bucket, 0) + count
    return _encode(histogram).decode()


def add_histograms(one: str, two: str) -> str:
    """Return the sum of two stored histograms."""
    histogram = to_histogram(one)
    for bucket, count in to_histogram(two).items():
        histogram[bucket] = histogram.get(bucket, 0) + count
    return _encode(histogram).decode()


def sum_histograms(stored: str) -> Histogram:
    """Return the sum of histograms that commas separate."""
    try:
        parts = _decode_all(f"[{stored}]")
        return parts[0] if len(parts) == 1 else sum_of(parts)
    except msgspec.DecodeError:
        return {}


def to_histogram(stored: Any) -> dict[int, int]:
    """Return the histogram in a JSON object; an empty one if another program wrote anything else."""
    try:
        return _decode(stored)
    except msgspec.DecodeError:
        return {}
