"""`ProcessorShare`: how busy this process keeps a processor."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

_TASKS: Final = Path("/proc/self/task")


def processor_seconds() -> float:
    """Return for how many seconds the threads of this process have run or, on Linux, waited for a processor.

    The wait counts, since a process that gets half of a processor on a busy machine computes all the time too.
    """
    waited = 0
    for path in _TASKS.glob("*/schedstat"):
        try:
            waited += int(path.read_text().split()[1])
        except (OSError, IndexError):  # the thread has ended
            continue
    return time.process_time() + waited / 1e9


class ProcessorShare:
    """Measures the share of one processor that this process needs, all threads together and without child processes.

    A process whose handlers compute in Python has about 1; more than 1 is possible where threads run outside of the
    interpreter's lock.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, used: Callable[[], float] = processor_seconds
    ) -> None:
        self._clock = clock
        self._used = used
        self._last = clock(), used()

    def take(self) -> float:
        """Return the share since the last call, or since this was made."""
        (before, used_before), self._last = self._last, (self._clock(), self._used())
        at, used = self._last
        # The waits of a thread are forgotten when it ends.
        return max((used - used_before) / (at - before), 0.0) if at > before else 0.0
