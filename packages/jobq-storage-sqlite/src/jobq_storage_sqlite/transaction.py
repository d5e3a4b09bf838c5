"""What an operation works with: a connection inside its transaction, the time, fresh numbers, whom to ring for."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from jobq_storage_sqlite.boot_clock import Moment
from jobq_storage_sqlite.sql import sql


def _replacing(text: bytes) -> str:
    return text.decode("utf-8", "replace")


class Transaction:
    """One transaction of the database, shared by the operations that are committed together.

    Numbers are taken from the database once and put back once, at `flush`. Topics noted by an operation that failed are
    taken back with its changes; the numbers it took stay unused. now, uptime: what the two clocks said when it began.
    """

    __slots__ = ("_next", "_taken", "connection", "now", "topics", "uptime")

    def __init__(self, connection: sqlite3.Connection | sqlite3.Cursor, moment: Moment) -> None:
        self.connection = connection
        self.now, self.uptime = moment
        self.topics: set[str] = set()
        self._next = 0
        self._taken = False

    def numbers(self, count: int) -> int:
        """Take `count` numbers greater than any given out before, and return the first."""
        if not self._taken:
            self._next = self.connection.execute(sql("numbers")).fetchone()[0] + 1
            self._taken = True
        first = self._next
        self._next = first + count
        return first

    def run(self, name: str, *parameters: Any, **named: Any) -> sqlite3.Cursor:
        """Run sql/`name`.sql, with values for its `?` in their order, or for its `:names`."""
        return self.connection.execute(sql(name), named or parameters)

    def many(self, name: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Run sql/`name`.sql for each row and return how many rows of the table it changed."""
        return self.connection.executemany(sql(name), rows).rowcount

    def one(self, name: str, *parameters: Any, **named: Any) -> Any:
        """Run sql/`name`.sql and return its first row, or None."""
        try:
            return self.connection.execute(sql(name), named or parameters).fetchone()
        except sqlite3.OperationalError as error:
            return next(iter(self._read_damaged(error, name, named or parameters)), None)

    def all(self, name: str, *parameters: Any, **named: Any) -> list[Any]:
        """Run sql/`name`.sql and return its rows."""
        try:
            return self.connection.execute(sql(name), named or parameters).fetchall()
        except sqlite3.OperationalError as error:
            return self._read_damaged(error, name, named or parameters)

    def _read_damaged(self, error: sqlite3.OperationalError, name: str, parameters: Any) -> list[Any]:
        """Read once more what holds text that is no UTF-8, by a stranger's hand: one row must not hide the others."""
        if "decode to UTF-8" not in str(error):
            raise error
        connection = self.connection.connection if isinstance(self.connection, sqlite3.Cursor) else self.connection
        before, connection.text_factory = connection.text_factory, _replacing
        try:
            return self.connection.execute(sql(name), parameters).fetchall()
        finally:
            connection.text_factory = before

    def flush(self) -> dict[str, int]:
        """Write what was gathered; the last thing before the commit. Returns how often each topic rang by now."""
        if self._taken:
            self.run("numbers_taken", self._next - 1)
        ring = sql("ring")
        return {topic: self.connection.execute(ring, (topic,)).fetchone()[0] for topic in self.topics}
