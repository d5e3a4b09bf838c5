"""Processes whose clock is wrong, or is set while they run, by libfaketime.

The wheel `libfaketime` contains the library for x86-64; elsewhere, Debian's package of that name provides it. Only the
time of day is wrong: the clock keeps its speed, and CLOCK_MONOTONIC stays right.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from load import Load, Process

_REMEDY = "install it: pip install libfaketime (x86-64), or Debian's package (apt-get install libfaketime)"


class NoFakeTimeError(RuntimeError):
    """No working libfaketime was found."""

    def __init__(self) -> None:
        super().__init__(f"no working libfaketime was found; {_REMEDY}")


def _candidates() -> Iterator[Path]:
    spec = importlib.util.find_spec("libfaketime")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield from Path(folder).glob("vendor/libfaketime/src/libfaketime*.so.1")
    yield from Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")


@cache
def library() -> Path:
    """Return the path of a libfaketime that works. Raises NoFakeTimeError."""
    for path in _candidates():
        asked = subprocess.run(
            [sys.executable, "-c", "import time; print(time.time())"],
            env={**os.environ, **_variables(path), "FAKETIME": "2001-01-01 00:00:00"},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        if asked.returncode == 0 and asked.stdout.startswith("978"):
            return path
    raise NoFakeTimeError


def _variables(path: Path) -> dict[str, str]:
    return {
        "LD_PRELOAD": str(path),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
        # Otherwise, waits by CLOCK_MONOTONIC are shifted by the offset, those for Python's GIL among them.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }


class Clock:
    """A machine's clock. `environment`: for the processes that use it; `set` sets it while they run."""

    def __init__(self, folder: Path, name: str, offset: str) -> None:
        self._file = folder / f"clock-{name}"
        self.set(offset)

    def set(self, offset: str) -> None:
        """Set the clock's offset from the real time: '+2h', '-2h', '+0'."""
        # Replaced atomically: a process reads the file each time it reads its clock.
        written = self._file.with_suffix(".new")
        written.write_text(f"{offset}\n")
        written.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of a process on this machine."""
        return {
            **_variables(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
        }


class Machine(Load):
    """A machine with such a clock. Processes started here use it, and share the journal with other machines.

    processes: those of all machines, so that the verdict of one knows which of them were late.
    """

    def __init__(
        self,
        children: Any,
        folder: Path,
        url: str,
        offset: str,
        name: str,
        processes: list[Process] | None = None,
    ) -> None:
        super().__init__(children, folder, url, processes=processes)
        self.name = name
        self.clock = Clock(folder, name, offset)
        self._environment |= self.clock.environment
