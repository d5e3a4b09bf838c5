"""What a fork needs with SQLite, which keeps the locks of a process's connections in memory too.

A forked child inherits that memory, but not the locks: it would take its parent's for its own, and find the mutex of a
call under way locked forever. So a process forks only between its threads' calls of SQLite, and only between the
writer's transactions. A child closes what it inherited before it opens a connection: SQLite then asks the system for
its locks. The system keeps locks by process, so the parent's stay.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from typing import Any, Final


class ForkGate(threading.local):
    """A lock of each thread, which holds it while it calls SQLite. A thread that forks holds them all."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        with _forking:
            _locks.add(self.lock)


class Connection(sqlite3.Connection):
    """A connection that a forked child closes. Made with check_same_thread=False, as another thread does that."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.pid = os.getpid()
        _connections.add(self)

    def close(self) -> None:
        with gate.lock:
            super().close()


class ReadConnection(Connection):
    """A connection during whose calls the process does not fork."""

    def cursor(self, factory: Any = None) -> Any:
        return super().cursor(factory or _ReadCursor)


class _ReadCursor(sqlite3.Cursor):
    def execute(self, *args: Any) -> _ReadCursor:
        with gate.lock:
            super().execute(*args)
            return self

    def fetchone(self) -> Any:
        with gate.lock:
            return super().fetchone()

    def fetchall(self) -> list[Any]:
        with gate.lock:
            return super().fetchall()

    def __next__(self) -> Any:
        with gate.lock:
            return super().__next__()


_locks: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
_connections: Final[weakref.WeakSet[Connection]] = weakref.WeakSet()
_closing: Final = threading.Lock()
_forking: Final = threading.Lock()
_held: Final[list[Any]] = []

gate: Final = ForkGate()

_owner = os.getpid()
"""The process that has closed what it inherited."""


def close_inherited() -> None:
    """Close the connections of the parent process of a fork. Called with the gate's lock.

    It does not count on a hook after the fork, since uWSGI calls none.
    """
    global _owner
    pid = os.getpid()
    if pid == _owner:
        return
    with _closing:
        for connection in list(_connections):
            if connection.pid != pid:
                connection.close()
        _owner = pid


def _before() -> None:
    # Two threads that fork at once would wait for each other's locks. A thread that has no lock yet waits for the fork.
    _forking.acquire()
    for lock in list(_locks):
        lock.acquire()
        _held.append(lock)


def _after() -> None:
    for lock in _held:
        lock.release()
    _held.clear()
    _forking.release()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
