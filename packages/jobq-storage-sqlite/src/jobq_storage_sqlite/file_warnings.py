"""Warnings about the file, for administrators: those of a storage, and of its workers' health."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Final

LOG_TOO_LARGE_BYTES: Final = 256 * 1024 * 1024
"""The size of the write-ahead log, in bytes, from which there is a warning. It stays far below that unless a reader
keeps SQLite from putting it into the database."""

LOOK_SECONDS: Final = 5.0
"""The pause between two looks at the log's size. Each look makes the next write to the log slower."""

log = logging.getLogger("jobq.sqlite")


class FileWarnings:
    """The warnings that hold now, by subject; shared by a storage's connections."""

    def __init__(self) -> None:
        self._sentences: dict[str, str] = {}

    @property
    def current(self) -> tuple[str, ...]:
        """The sentences that hold now."""
        return tuple(self._sentences.values())

    def say(self, subject: str, sentence: str) -> None:
        """Record a sentence, and log it if it is new."""
        # Each connection finds the same problem, at each call.
        if self._sentences.get(subject) != sentence:
            self._sentences[subject] = sentence
            log.warning("%s", sentence)

    def clear(self, subject: str, sentence: str) -> None:
        """Drop the warning of a subject, and log this sentence if there was one."""
        if self._sentences.pop(subject, None) is not None:
            log.info("%s", sentence)


class LogGrowth:
    """Warns while the write-ahead log (`-wal`) is larger than it ever needs to be."""

    def __init__(self, path: Path, warnings: FileWarnings) -> None:
        self._path = path
        self._warnings = warnings
        self._look_at = 0.0
        self._warned = False

    def check(self) -> None:
        """Look at the log's size, if the last look was long enough ago."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        try:
            # SQLite follows links, and names the log after the file that it comes to.
            size = os.stat(f"{os.path.realpath(self._path)}-wal").st_size  # noqa: PTH116 -- as in FileIdentity
        except OSError:
            return  # FileIdentity says what is wrong
        if size < LOG_TOO_LARGE_BYTES:
            self._warned = False
            self._warnings.clear("log", f"SQLite file {self._path}: its log (-wal) was copied into the database")
        elif not self._warned:
            self._warned = True
            self._warnings.say(
                "log",
                f"SQLite file {self._path}: its log (-wal) has grown to {size // 1_000_000} MB and cannot be copied "
                "into the database, since a connection keeps a read transaction open: end it (a shell, a backup, a "
                "program that does not finish its SELECT), and the log shrinks by itself",
            )
