"""Processes that are paused, and SQLite's write lock, which nobody can take from one that is."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing


def locked(url: str, seconds: float = 0.0) -> bool:
    """Say whether somebody has the write lock of a SQLite file for all that time."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=seconds, isolation_level=None)) as stranger:
        try:
            stranger.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        stranger.execute("ROLLBACK")
        return False


def pause_between_writes(stop: Callable[[], object], resume: Callable[[], object], url: str) -> None:
    """Pause a process, though not while it writes to SQLite. stop, resume: do so to it."""
    for _ in range(200):
        stop()
        if not url.startswith("sqlite:") or not locked(url):
            return
        resume()
        time.sleep(0.05)  # so long it may write: stopped again at once, it would never come to the end
    raise AssertionError("the process holds the lock whenever it is looked at")
