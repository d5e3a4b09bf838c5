"""Write a week of jobs into an SQLite file as jobq would leave it: millions that finished, and thousands that wait."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

QUEUES: Final = 8
KINDS: Final = 3
"""The number of kinds of each queue."""
SECOND: Final = 1_000_000
DAY: Final = 86_400 * SECOND
SPAN: Final = 4_096_000
"""The microseconds of a row of jobq_span."""
BATCH: Final = 20_000

FEW: Final = 100_000
"""With fewer finished jobs, only a twentieth of the history of statistics and depths is written."""

ENDED: Final = {"completed": 95, "failed": 4, "aborted": 1}
WAITING: Final = {"pending": 600, "scheduled": 300, "blocked": 50, "disabled": 49, "processing": 1}
"""The shares of the states."""
REASONS: Final = {"scheduled": "delayed", "blocked": "gated", "disabled": "disabled", "aborted": "aborted"}
COLUMNS: Final = {
    "jobq_job": ("n", "id", "kind", "priority", "arguments", "created_at", "max_attempts", "run_id", "tags"),
    "jobq_life": (
        *("n", "queue", "urgency", "position", "state", "since", "attempt", "run_at", "reason", "worker", "lease"),
        *("settled", "started_at", "finished_at", "error_lease"),
    ),
    "jobq_attempt": (
        *("n", "lease", "number", "worker", "started_at", "finished_at"),
        *("type", "message", "traceback"),
    ),
    "jobq_span": ("what", "name", "span"),
}
"""The columns that are written of the tables of jobs."""
SUMS: Final = ("minute", "queue", "kind", "state", "jobs", "waiting_seconds", "running_seconds", "waiting", "running")
TOGETHER: Final = """
INSERT INTO jobq_tally_step (
    step, minute, queue, kind, state, jobs, waiting_seconds, running_seconds, waiting, running
)
SELECT step, minute, '', '', state, sum(jobs), sum(waiting_seconds), sum(running_seconds), waiting, running
FROM jobq_tally_step
GROUP BY step, minute, state
"""


class Week:
    """Rows of a week, in the order of adding. now: its end, in microseconds since 1970."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.last = 0
        self._draw = random.Random(7)
        self._workers = [self._draw.randbytes(16) for _ in range(20)]

    def jobs(self, states: dict[str, int], count: int, start: int, end: int) -> Iterator[dict[str, list[Any]]]:
        """Yield the rows of jobs that were added evenly between two times, by table, batch by batch."""
        rows: dict[str, list[Any]] = {table: [] for table in COLUMNS}
        drawn = self._draw.choices(list(states), list(states.values()), k=count)
        for number, state in enumerate(drawn):
            self._add(rows, state, start + (end - start) * number // count)
            if len(rows["jobq_job"]) == BATCH:
                yield rows
                rows = {table: [] for table in COLUMNS}
        yield rows

    def _add(self, rows: dict[str, list[Any]], state: str, at: int) -> None:
        draw, n = self._draw, self.last + 1
        self.last = n
        number = draw.randrange(QUEUES)
        queue, kind = f"queue{number}", f"kind{number}.{draw.randrange(KINDS)}"
        made = ((at // 1000) << 80 | 7 << 76 | 2 << 62 | draw.getrandbits(62)).to_bytes(16)
        tag = f"customer:{draw.randrange(1000)}" if n % 4 == 0 else None
        tags, run_id = (None if tag is None else json.dumps([tag])), f"run{n // 500}" if n % 10 == 0 else None
        arguments = json.dumps({"order_id": n, "customer": f"c{n % 1000}", "note": "x" * 80}).encode()
        rows["jobq_job"].append((n, made, kind, 0, arguments, at, 10, run_id, tags))
        spans = [("queue", queue), ("kind", kind), *([("tag", tag)] if tag else [])]
        ended, waited = state in ENDED, draw.randrange(2 * SECOND)
        finished = at + waited + draw.randrange(5 * SECOND) if ended else None
        worker, lease = (draw.choice(self._workers), n) if ended or state == "processing" else (None, None)
        started = None if worker is None else at + waited
        if ended:
            self.counts[queue, state, kind] += 1
        if state in ("failed", "aborted"):
            spans.append(("state", state))
        if state == "failed":
            error = draw.choice(("ValueError", "shop.errors.PaymentError", "TimeoutError"))
            message, trace = f"host {n % 17} did not answer for {n} ms", "Traceback …\n" * 20
            rows["jobq_attempt"].append((n, n, 10, worker, started, finished, error, message, trace))
        run_at = self.now + draw.randrange(10 * DAY) if state == "scheduled" else None
        attempt, settled = 0 if worker is None else 1, state if ended else None
        error_lease, reason = (n if state == "failed" else None), REASONS.get(state)
        rows["jobq_life"].append(
            (n, queue, 0, n, state, at, attempt, run_at, reason, worker, lease, settled, started, finished, error_lease)
        )
        rows["jobq_span"] += [(what, name, at // SPAN) for what, name in spans]


def write_week(url: str, finished: int, waiting: int, *, oldest: bool) -> None:
    """Write jobs into an empty file with jobq's tables.

    oldest: whether the jobs that wait are older than those that finished, instead of newer.
    """
    now = time.time_ns() // 1000
    week = Week(now)
    parts = [(WAITING, waiting, now - 8 * DAY, now - 7 * DAY), (ENDED, finished, now - 7 * DAY, now - 1000)]
    if not oldest:
        parts = [(ENDED, finished, now - 7 * DAY, now - DAY // 24), (WAITING, waiting, now - DAY // 24, now - 1000)]
    with closing(sqlite3.connect(Path(url.removeprefix("sqlite:///")), isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        for states, count, start, end in parts:
            for rows in week.jobs(states, count, start, end):
                for table, columns in COLUMNS.items():
                    _insert(connection, table, columns, rows[table])
        counts = [(queue, state, kind, jobs) for (queue, state, kind), jobs in week.counts.items()]
        _insert(connection, "jobq_count", ("queue", "state", "kind", "jobs"), counts)
        part = 1 if finished >= FEW else 20
        _insert(connection, "jobq_tally", SUMS, _statistics(now, 60, 1440 // part))
        for step, days in ((600, 3), (3600, 7)):
            sums = ((step, *row) for row in _statistics(now, step, days * 1440 // part))
            _insert(connection, "jobq_tally_step", ("step", *SUMS), sums)
        connection.execute(TOGETHER)
        for step, days in ((60, 1), (600, 3), (3600, 7)):
            columns = ("step", "start", "queue", "state", "jobs", "age")
            _insert(connection, "jobq_depth", columns, _depths(now, step, days * 1440 // part))
        connection.execute("UPDATE jobq_sequence SET value = ?", (week.last,))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _insert(connection: sqlite3.Connection, table: str, columns: Sequence[str], rows: Iterable[Any]) -> None:
    marks = ", ".join("?" * len(columns))
    connection.executemany(f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)


def _statistics(now: int, step: int, length: int) -> Iterator[tuple[Any, ...]]:
    """Yield rows of statistics of each step, queue and kind, of three states."""
    histogram = json.dumps({str(bucket): bucket for bucket in range(8, 20)})
    minutes, last = step // 60, now // SECOND // step * step // 60
    for minute in range(last - length, last, minutes):
        for number in range(QUEUES * KINDS):
            queue, kind = number % QUEUES, number // QUEUES
            for state, every in (("completed", 1), ("failed", 3), ("aborted", 10)):
                if (minute // minutes + number) % every == 0:
                    names = (f"queue{queue}", f"kind{queue}.{kind}", state)
                    yield (minute, *names, 162, 40.5, 80.5, histogram, histogram)


def _depths(now: int, step: int, length: int) -> Iterator[tuple[Any, ...]]:
    """Yield points of the history of depths of each step and queue, of four states."""
    last = now // SECOND // step * step
    for start in range(last - 60 * length, last, step):
        for queue in range(QUEUES):
            for state in ("pending", "scheduled", "blocked", "processing"):
                yield step, start, f"queue{queue}", state, start % 10_000, 60 * SECOND
