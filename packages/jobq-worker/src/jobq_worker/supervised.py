"""`Child`: a place for a worker process, with what its supervisor knows of it; and what a child sends."""

from __future__ import annotations

import signal
from typing import Final, Protocol

READY: Final = b"R"
BEAT: Final = b"."
ENDED: Final = b"E"
DONE: Final = b"D"
"""What a child sends: its worker has started; its event loop answers; its worker has stopped; it needs no restart."""


class Process(Protocol):
    """A started child."""

    pid: int

    def read(self) -> bytes:
        """Return what the child has sent since the last call; does not wait."""
        ...

    def poll(self) -> int | None:
        """Return the exit code, below 0 for a signal; None while the child runs."""
        ...

    def send_signal(self, number: int) -> None:
        """Signal the child; a child that has ended is left alone."""
        ...


class Child:
    """One of the children, through its restarts. number: from 1."""

    def __init__(self, number: int, start_at: float) -> None:
        self.number = number
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
        self.signals: list[tuple[float, signal.Signals]] = []
        """The signals to send, with their times."""

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
