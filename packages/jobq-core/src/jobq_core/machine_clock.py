"""The machine's clock: it is never set, and goes on while the machine sleeps."""

from __future__ import annotations

import sys
import time
from typing import Final

# macOS has no CLOCK_BOOTTIME, and only its CLOCK_MONOTONIC_RAW goes on during sleep. On Windows, `time.monotonic` does.
_CLOCK: Final[int | None] = getattr(time, "CLOCK_MONOTONIC_RAW" if sys.platform == "darwin" else "CLOCK_BOOTTIME", None)


def machine_clock() -> float:
    """Return seconds of a clock that is never set, and goes on while the machine sleeps where the system has one."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)
