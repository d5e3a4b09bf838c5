"""The exit codes of a process that `run` serves in, and ending a process that does not end by itself."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from enum import IntEnum
from typing import Final

logger = logging.getLogger("jobq.worker")

SAY_SECONDS: Final = 1.0
"""Time to write to a log that may be blocked too, by a full pipe."""
LEAVE_SECONDS: Final = 2.0
"""Time that the program has to end after `run` raised SystemExit, before it is ended by force."""


class ExitCode(IntEnum):
    """How `run`, `jobq worker` and `jobq server` end. Codes 1 and 2 are errors at the start."""

    STOPPED = 0
    """A signal or `stop()` stopped the worker, and every run ended or was released."""
    RUNS_LEFT = 3
    """Handlers did not end although they were asked to. Their jobs are rescued when the worker's lease runs out."""
    BLOCKED = 4
    """A signal came, and the worker could not stop: its event loop did not answer, or its stop took too long."""
    HUNG = 5
    """More handlers hung than `max_hung`, and `exit_when_hung` was set."""


def say(log: Callable[[], object]) -> None:
    """Write to the log from another thread, and wait for it SAY_SECONDS at most."""

    def write() -> None:
        log()
        for handler in [*logging.getLogger().handlers, *logger.handlers]:
            handler.flush()

    saying = threading.Thread(target=write, name="jobq-last-log", daemon=True)
    saying.start()
    saying.join(SAY_SECONDS)


def end_process(code: ExitCode, log: Callable[[], object]) -> None:
    """End the process now, without cleaning up. log: writes to the log why."""
    say(log)
    os._exit(code)


def end_process_soon(code: ExitCode) -> Callable[[], None]:
    """End the process with this code after LEAVE_SECONDS, unless it has ended by then, or the returned function was
    called. A handler that swallows every cancellation, or a thread that it started, keeps `asyncio.run` waiting."""
    cancelled = threading.Event()

    def wait() -> None:
        if not cancelled.wait(LEAVE_SECONDS):
            end_process(
                code, lambda: logger.critical("handlers keep the process from ending; exiting with code %d", code)
            )

    threading.Thread(target=wait, name="jobq-exit", daemon=True).start()
    return cancelled.set
