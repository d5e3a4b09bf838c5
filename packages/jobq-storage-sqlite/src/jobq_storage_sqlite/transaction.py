"""The context of an operation: a connection inside its transaction, the time, new numbers, and a record of effects."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, TypeVar

from jobq_storage_sqlite.adding_steps import Step
from jobq_storage_sqlite.boot_clock import Moment
from jobq_storage_sqlite.caller_cursors import Rows, Runner
from jobq_storage_sqlite.runs import Run
from jobq_storage_sqlite.spans import Span, StoredSpans
from jobq_storage_sqlite.sql import sql
from jobq_storage_sqlite.tally import Tally

T = TypeVar("T")


class Transaction:
    """One transaction of the database, shared by the operations that are committed together.

    Numbers are read from the database once and written back once, by `flush`, and so is what the operations note. If an
    operation fails, what it noted is dropped with its changes, but for its spans, which may have no jobs; the numbers
    that it took stay unused.

    now, uptime: the two clocks' readings when the transaction began, in microseconds.
    topics: to be notified. spans: to be stored. tally: what comes to the statistics.
    runs: what is known of the runs of jobs that were claimed here, by lease; kept from one transaction to the next, as
        stored_spans are.
    """

    __slots__ = (
        "_next",
        "_prunings",
        "_taken",
        "connection",
        "now",
        "runs",
        "spans",
        "stored_spans",
        "tally",
        "topics",
        "uptime",
    )

    def __init__(self, connection: Runner, moment: Moment, runs: dict[int, Run], stored_spans: StoredSpans) -> None:
        self.connection = connection
        self.now, self.uptime = moment
        self.topics: set[str] = set()
        self.spans: set[Span] = set()
        self.tally = Tally()
        self.runs = runs
        self.stored_spans = stored_spans
        self._next = 0
        self._prunings: int | None = None
        self._taken = False

    def numbers(self, count: int) -> int:
        """Take `count` numbers greater than any given out before, and return the first."""
        if not self._taken:
            last, self._prunings = self.one("read_sequence")
            self._next = last + 1
            self._taken = True
        first = self._next
        self._next = first + count
        return first

    def run(self, name: str, *parameters: Any, **named: Any) -> Rows:
        """Run the statement of this name, with values for its `?` in their order, or for its `:names`."""
        return self.connection.execute(sql(name), named or parameters)

    def many(self, name: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Run the statement of this name for each row and return how many rows of the table it changed."""
        return self.connection.executemany(sql(name), rows).rowcount

    def one(self, name: str, *parameters: Any, **named: Any) -> Any:
        """Run the statement of this name and return its first row, or None."""
        return self.connection.execute(sql(name), named or parameters).fetchone()

    def all(self, name: str, *parameters: Any, **named: Any) -> list[Any]:
        """Run the statement of this name and return its rows."""
        return self.connection.execute(sql(name), named or parameters).fetchall()

    def carry_out(self, steps: Generator[Step, Any, T]) -> T:
        """Run the statements that a generator yields and return what it returns."""
        answer: Any = None
        while True:
            try:
                name, parameters = steps.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            if type(parameters) is list:
                answer = self.connection.executemany(sql(name), parameters).rowcount
            else:
                answer = self.connection.execute(sql(name), parameters).fetchall()

    def flush(self) -> dict[str, int]:
        """Write what was gathered; the last thing before the commit. Returns each topic's count of notifications."""
        if self._taken:
            self.run("advance_sequence", self._next - 1)
        if self.spans:
            self._store_spans()
        self.tally.write(self.connection, self.now)
        return {topic: self.one("notify", topic)[0] for topic in self.topics}

    def _store_spans(self) -> None:
        prunings = self._prunings
        if prunings is None:
            _, prunings = self.one("read_sequence")
            self._prunings = prunings
        missing = self.stored_spans.missing(self.spans, prunings)
        if missing:
            self.many("insert_span", missing)
