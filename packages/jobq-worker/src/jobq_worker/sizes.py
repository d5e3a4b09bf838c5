"""Amounts of memory: as numbers of bytes, and as text such as '500MB'."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path
from typing import Any, Final

from jobq_core.errors import ConfigurationError
from jobq_core.reprs import short_repr

_UNITS: Final = {"": 1, "B": 1} | {
    name: base**power
    for power, letter in enumerate("KMGT", start=1)
    for name, base in ((letter, 1000), (f"{letter}B", 1000), (f"{letter}IB", 1024))
}
_STATM: Final = Path("/proc/self/statm")


def check_size(value: Any, what: str) -> int:
    """Return bytes, 1 or more, of a whole number or of text such as '500MB' or '1.5 GiB'; raises ConfigurationError."""
    size = 0
    if type(value) is int:
        size = value
    elif isinstance(value, str) and (found := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value)):
        size = int(float(found[1]) * _UNITS.get(found[2].upper(), 0))
    if size < 1:
        raise ConfigurationError(
            f"{what} must be a number of bytes, or text such as '500MB' or '2GiB', not {short_repr(value)}"
        )
    return size


def resident_bytes() -> int:
    """Return the memory of this process that is in RAM, in bytes; the highest so far where /proc is missing."""
    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
