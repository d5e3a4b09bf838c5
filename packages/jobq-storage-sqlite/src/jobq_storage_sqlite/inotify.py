"""The kernel's hints about writes to a file, by inotify, where there is Linux."""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path
from typing import Final, Self

_IN_MODIFY: Final = 0x2


class Inotify:
    """The hints about one file. Use it with `with`; `wake` is for any thread, the rest for one."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._woken, self._wake = os.pipe()
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds; return whether there was a write, or a `wake`, since the last call."""
        ready = self._poll.poll(timeout * 1000)
        for descriptor, _ in ready:
            os.read(descriptor, 65536)
        return bool(ready)

    def wake(self) -> None:
        """End the wait."""
        os.write(self._wake, b"!")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in (self._descriptor, self._woken, self._wake):
            os.close(descriptor)


def watch_writes(file: Path) -> Inotify | None:
    """Return the hints about a file; None where this system gives none."""
    if sys.platform != "linux":
        return None
    # Imported here: a storage whose subscriptions never wait does not need it.
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        return None  # the user's limit of instances is reached
    if libc.inotify_add_watch(descriptor, os.fsencode(file), _IN_MODIFY) < 0:
        os.close(descriptor)
        return None
    return Inotify(descriptor)
