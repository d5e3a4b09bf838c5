"""`ForkGate`: lets a process fork only between transactions.

SQLite keeps the locks of a process's connections in memory too, which a forked child inherits: after a fork in the
middle of a write transaction, the child would take its own file for locked without limit.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Final


class ForkGate:
    """A lock that a connection's thread holds during a transaction, and a thread that forks during the fork."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        _gates.add(self)


_gates: Final[weakref.WeakSet[ForkGate]] = weakref.WeakSet()
_forking: Final = threading.Lock()
_held: Final[list[ForkGate]] = []


def _before() -> None:
    _forking.acquire()  # two threads that fork at once would wait for each other's gates
    for gate in list(_gates):
        gate.lock.acquire()
        _held.append(gate)


def _after() -> None:
    for gate in _held:
        gate.lock.release()
    _held.clear()
    _forking.release()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
