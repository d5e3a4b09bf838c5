"""Pause processes, but not while they hold SQLite's write lock."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing


def locked(url: str, seconds: float = 0.0) -> bool:
    """Return whether a process holds the write lock of a SQLite file for all that time."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=seconds, isolation_level=None)) as stranger:
        try:
            stranger.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        stranger.execute("ROLLBACK")
        return False


def pause_between_writes(stop: Callable[[], object], resume: Callable[[], object], url: str) -> None:
    """Pause a process, but not while it writes to SQLite. `stop` and `resume` are called to do so."""
    for _ in range(200):
        stop()
        if not url.startswith("sqlite:") or not locked(url):
            return
        resume()
        time.sleep(0.05)  # time to finish the write; if it were stopped again at once, it would never finish
    raise AssertionError("the process held the lock at every check")
