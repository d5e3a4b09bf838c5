"""Hints that a file was written to, so that nobody has to ask SQLite all the time: inotify, where there is Linux."""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path
from typing import Final, Self

_IN_MODIFY: Final = 0x2


class Inotify:
    """The kernel's hints about writes to one file. Use it with `with`; `poke` is for any thread, the rest for one."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poked, self._poke = os.pipe()
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._poll.register(self._poked, select.POLLIN)

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for a write, and say whether there was one since the last call, or a poke."""
        ready = self._poll.poll(timeout * 1000)
        for descriptor, _ in ready:
            os.read(descriptor, 65536)
        return bool(ready)

    def poke(self) -> None:
        """End the wait."""
        os.write(self._poke, b"!")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in (self._descriptor, self._poked, self._poke):
            os.close(descriptor)


def watch_writes(file: Path) -> Inotify | None:
    """Return the hints about a file, or None where this system has none to give."""
    if sys.platform != "linux":
        return None
    # Imported where it is used: only who waits for other processes needs it.
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        return None  # the user's limit of instances is reached
    if libc.inotify_add_watch(descriptor, os.fsencode(file), _IN_MODIFY) < 0:
        os.close(descriptor)
        return None
    return Inotify(descriptor)
