"""The two clocks of a storage: the time of day, and the time since the machine booted.

When a job is due, over, or old goes by the time of day, which people understand and which anybody may set. Whether a
worker lives, and who leads the maintenance, goes by the time since booting, which nobody can set: all processes of a
machine read the same, it goes on while the machine sleeps, and no process outlives it.

A reading that lies ahead is of a time before the machine booted last. So a lease stands while the reading at its start
and that of now are less than its length apart, whichever comes first; one from before the boot is over at once, unless
the machine had then been up for about as long as it is now: that one is over within twice its length. The name that
Linux gives to each boot would tell the two apart, but containers of LXC and systemd-nspawn have one each, and workers
in two of them would take each other for lost.
"""

from __future__ import annotations

import sys
import time
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

_OFFSETS: Final = Path("/proc/self/timens_offsets")


class Moment(NamedTuple):
    """What the two clocks say at one moment, in microseconds: since 1970, and since the machine booted."""

    now: int
    uptime: int


def uptime() -> float:
    """Return the seconds since the machine booted, sleep included; the same for all processes of the machine."""
    clock = _clock()
    return time.monotonic() if clock is None else (time.clock_gettime_ns(clock) - _ahead()) / 1e9


@cache
def _clock() -> int | None:
    """Return the system's clock; None where Python's monotonic one counts from the boot and through sleep (Windows)."""
    # CLOCK_MONOTONIC_RAW goes on in sleep on macOS only; there is no CLOCK_BOOTTIME there.
    clock: int | None = getattr(time, "CLOCK_MONOTONIC_RAW" if sys.platform == "darwin" else "CLOCK_BOOTTIME", None)
    return clock


@cache
def _ahead(offsets: Path = _OFFSETS) -> int:
    """Return the nanoseconds by which the clock is ahead of the machine's, in a time namespace of Linux."""
    try:
        lines = offsets.read_text().splitlines()
    except OSError:
        # Other systems, kernels that have no time namespaces, and where /proc is hidden: nothing says that it is ahead.
        return 0
    found = next((line.split()[1:] for line in lines if line.startswith("boottime")), ("0", "0"))
    seconds, nanoseconds = map(int, found)
    return seconds * 1_000_000_000 + nanoseconds
