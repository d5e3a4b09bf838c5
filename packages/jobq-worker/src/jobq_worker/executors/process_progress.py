"""Progress reports on their way from a handler process: the last one, at most 20 times a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from jobq_core.records import Progress
from jobq_worker.executors.messages import Report

SEND_SECONDS: Final = 0.05
"""Minimum interval between two reports."""


class ProgressSender:
    """Takes reports from any thread, at once, and sends the last one from a thread of its own.

    send: sends a message, and raises OSError when the worker is gone.
    """

    def __init__(self, send: Callable[[Report], None]) -> None:
        self._send = send
        self._last: Report | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def report(self, lease: int, progress: Progress) -> None:
        """Keep the report of the run of this lease until it is sent."""
        with self._changed:
            self._last = Report(lease, progress)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="jobq-progress", daemon=True)
                self._thread.start()
            self._changed.notify()

    def take(self) -> Progress | None:
        """Return the last report if it was not sent."""
        with self._changed:
            last, self._last = self._last, None
        return None if last is None else last.progress

    def _serve(self) -> None:
        while True:
            with self._changed:
                while self._last is None:
                    self._changed.wait()
                last, self._last = self._last, None
            try:
                self._send(last)
            except OSError:
                return
            time.sleep(SEND_SECONDS)
