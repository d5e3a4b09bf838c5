"""`Executor`: where handlers run. There are two, the event loop and threads; processes will be a third."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import ClassVar

from jobq_worker.run import Run

Ended = Callable[[Run], None]
"""Told of a run whose handler has ended, on the event loop; the run's `outcome` says how (None: settle nothing)."""


class Executor(abc.ABC):
    """Runs handlers, one per run. All methods are called on the event loop and return at once."""

    name: ClassVar[str]
    """What `@job(executor=…)` calls it."""
    runs_coroutines: ClassVar[bool]

    @abc.abstractmethod
    def start(self, run: Run) -> None:
        """Run the handler; `ended` is called exactly once when it has ended, unless the executor is closed before."""

    @abc.abstractmethod
    def stop(self, run: Run) -> None:
        """Ask a handler to end soon: `run.stop` says why. What cannot be stopped goes on until it ends."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of everything. A handler that still runs is abandoned: nobody hears of its end."""
