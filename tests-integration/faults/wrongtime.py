"""Processes whose clock is wrong, or set while they run, by libfaketime.

The wheel `libfaketime` carries it ready made for x86-64; elsewhere Debian's package of that name gives it. Only the
time of day is wrong, as on a machine that somebody set: seconds pass as fast as ever, and CLOCK_MONOTONIC is right.
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

from load import Load

_REMEDY = "install it: pip install libfaketime (x86-64), or Debian's package (apt-get install libfaketime)"


class NoFakeTimeError(RuntimeError):
    """No libfaketime works here."""

    def __init__(self) -> None:
        super().__init__(f"there is no libfaketime that works here; {_REMEDY}")


def _candidates() -> Iterator[Path]:
    spec = importlib.util.find_spec("libfaketime")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield from Path(folder).glob("vendor/libfaketime/src/libfaketime*.so.1")
    yield from Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")


@cache
def library() -> Path:
    """Return the library, tried; raises NoFakeTimeError."""
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
    return {"LD_PRELOAD": str(path), "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}


class Clock:
    """A machine's clock: `environment` is for the processes that go by it, and `set` sets it under them."""

    def __init__(self, folder: Path, name: str, offset: str) -> None:
        self._file = folder / f"clock-{name}"
        self.set(offset)

    def set(self, offset: str) -> None:
        """Let it be so far off from now on: '+2h', '-2h', '+0'."""
        # Put in place at once: a process reads the file whenever it looks at its clock.
        written = self._file.with_suffix(".new")
        written.write_text(f"{offset}\n")
        written.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for a process on this machine."""
        return {
            **_variables(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
        }


class Machine(Load):
    """A machine with such a clock: the processes started here go by it, and share the journal with others."""

    def __init__(self, children: Any, folder: Path, url: str, offset: str, name: str) -> None:
        super().__init__(children, folder, url)
        self.name = name
        self.clock = Clock(folder, name, offset)
        self._environment |= self.clock.environment
