"""`Child`: a place for a worker process, with what its supervisor knows of it; and what a child sends."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from typing import Any, Final, Protocol

READY: Final = "ready"
"""A child's worker has started; its lost_after and stop_timeout follow, in seconds."""
BEAT: Final = "beat"
"""A child's event loop answers."""
LOAD: Final = "load"
"""What a child's worker has to do follows, as JSON."""
ENDED: Final = "ended"
"""A child's worker has stopped."""
DONE: Final = "done"
"""A child's worker has stopped, since its queues are empty: the child needs no restart."""


class Process(Protocol):
    """A started child."""

    pid: int

    def read(self) -> list[str]:
        """Return the messages of the child since the last call; does not wait."""
        ...

    def poll(self) -> int | None:
        """Return the exit code, below 0 for a signal; None while the child runs."""
        ...

    def send_signal(self, number: int) -> None:
        """Signal the child; a child that has ended is left alone."""
        ...


class Child:
    """One of the children, through its restarts.

    number: from 1. lost_after, stop_timeout: until the child reports those of its worker.
    """

    def __init__(self, number: int, start_at: float, lost_after: float, stop_timeout: float) -> None:
        self.number = number
        self.lost_after = lost_after
        self.stop_timeout = stop_timeout
        self.process: Process | None = None
        self.start_at = start_at
        self.started_at = 0.0
        self.ready = False
        self.done = False
        self.silent = 0.0
        """Seconds since the child's last message, as far as the supervisor itself was running."""
        self.crashes = 0
        self.reloading = False
        self.ending = False
        self.joining = False
        """Whether it was added while others served, and has not started yet."""
        self.retired = False
        """Whether it is needed no more, and so is not restarted."""
        self.load: Mapping[str, Any] | None = None
        """What the process reported last of its load; None before its first report."""
        self.signals: list[tuple[float, signal.Signals]] = []
        """The signals to send, with their times."""

    def receive(self, message: str) -> None:
        """Take in a message."""
        word, _, rest = message.partition(" ")
        if word == READY:
            self.ready, self.joining = True, False
            self.lost_after, self.stop_timeout = map(float, rest.split())
        elif word == LOAD:
            self.load = json.loads(rest)
        self.done = self.done or word == DONE

    def begin(self, process: Process, now: float) -> None:
        """Take in a started process."""
        self.process, self.load = process, None
        self.started_at, self.silent = now, 0.0
        self.ready = self.reloading = self.ending = False
        self.signals = []

    def end(self, *signals: tuple[float, signal.Signals]) -> None:
        """Have the process end, by these signals if need be."""
        self.ending = True
        self.signals = list(signals)


def describe_exit(code: int) -> str:
    """Return the name of the signal that ended a process, or its exit code in words."""
    if code >= 0:
        return f"code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
