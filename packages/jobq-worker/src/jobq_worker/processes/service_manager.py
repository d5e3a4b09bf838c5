"""`ServiceManager`: tells systemd that the process is ready, stops, and still works (`Type=notify`, `WatchdogSec=`).

The protocol is a datagram to a socket, see sd_notify(3). Without a service manager, all of this does nothing.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, MutableMapping
from typing import Final, Self

PINGS: Final = 3
"""How many times in its time limit the watchdog is told that the process works."""


class ServiceManager:
    """The socket of the service manager. watchdog: seconds after which it ends a process that says nothing."""

    def __init__(self, address: str | None = None, watchdog: float | None = None) -> None:
        self._address = address
        self.watchdog = watchdog
        self._ready = self._stopping = False
        self._ping_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def take_over(cls, environment: MutableMapping[str, str] | None = None) -> Self:
        """Take the socket out of the environment: subprocesses must not speak for this process."""
        found = os.environ if environment is None else environment
        address, seconds, pid = (found.pop(f"{n}", "") for n in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"))
        is_watched = seconds.isdecimal() and int(seconds) > 0 and pid in ("", str(os.getpid()))
        return cls(address or None, int(seconds) / 1e6 if is_watched else None)

    def tell(self, state: str) -> None:
        """Send a state, such as 'READY=1'. A service manager that does not listen is left alone."""
        if self._address is None:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
                sending.connect(address)
                sending.send(state.encode(), socket.MSG_DONTWAIT)
        except OSError:
            return

    def ready(self) -> None:
        """Say once that the process has started."""
        if not self._ready:
            self._ready = True
            self.tell("READY=1")

    def ping(self) -> None:
        """Say that the process works, if that is due; call it often."""
        if self.watchdog is not None and time.monotonic() >= self._ping_at:
            self._ping_at = time.monotonic() + self.watchdog / PINGS / 2
            self.tell("WATCHDOG=1")

    def serve(self, is_live: Callable[[], bool]) -> None:
        """Say that the process has started, and then, from the event loop, that it works, as long as `is_live`.

        A blocked event loop says nothing: the service manager then ends the process.
        """
        self.ready()
        if self.watchdog is not None and self._address is not None:
            self._pulse(asyncio.get_running_loop(), self.watchdog / PINGS, is_live)

    def _pulse(self, loop: asyncio.AbstractEventLoop, interval: float, is_live: Callable[[], bool]) -> None:
        if is_live():
            self.tell("WATCHDOG=1")
        self._timer = loop.call_later(interval, self._pulse, loop, interval, is_live)

    def stopping(self) -> None:
        """Say once that the process stops."""
        if not self._stopping:
            self._stopping = True
            self.tell("STOPPING=1")

    def close(self) -> None:
        """Say nothing more from the event loop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
