"""The two clocks of a storage: the time of day, and the time since the machine booted.

The time of day decides when a job is due, when its deadline passes and how old it is. It can be set. The time since
booting decides whether a worker lives, and who leads the maintenance. It cannot be set, it is the same for all
processes of a machine, it continues while the machine sleeps, and no process outlives it.

A stored reading that is greater than the present one was taken before the machine last booted. So a lease stands while
the two readings, whichever is greater, are less than its length apart. A lease from before the boot is over at once,
unless the machine had then been up for about as long as it is now: that lease is over within twice its length. The boot
id of Linux would tell the two cases apart, but each container of LXC and systemd-nspawn has its own, so that workers in
two of them would rescue each other's jobs.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from jobq_core.machine_clock import machine_clock

_OFFSETS: Final = Path("/proc/self/timens_offsets")


class Moment(NamedTuple):
    """The readings of both clocks at one moment, in microseconds: since 1970, and since the machine booted."""

    now: int
    uptime: int


def uptime() -> float:
    """Return the seconds since the machine booted, sleep included; the same for all processes of the machine."""
    return machine_clock() - _ahead()


@cache
def _ahead(offsets: Path = _OFFSETS) -> float:
    """Return the seconds by which the clock is ahead of the machine's, in a time namespace of Linux."""
    try:
        lines = offsets.read_text().splitlines()
    except OSError:
        # Other systems, kernels without time namespaces, and a hidden /proc: the clock counts as not ahead.
        return 0.0
    found = next((line.split()[1:] for line in lines if line.startswith("boottime")), ("0", "0"))
    seconds, nanoseconds = map(int, found)
    return seconds + nanoseconds / 1e9
