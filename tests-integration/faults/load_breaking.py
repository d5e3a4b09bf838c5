"""A process whose SQLite connections break at a signal: `python load_breaking.py SCRIPT ARGUMENTS…`.

After SIGUSR1 the log can neither be read nor written; after SIGUSR2 it is written and never confirmed. The errors are
the kernel's own, for the descriptors that SQLite has open at the time of the signal.
"""

from __future__ import annotations

import itertools
import os
import runpy
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

TIMES = itertools.count(1)


def broken(flags: int, path: str) -> Any:
    """Return a signal handler that replaces each descriptor of the log by one of `path`."""

    def breaks(*_: Any) -> None:
        bad = os.open(path, flags)
        count = 0
        for entry in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):
                if str(entry.readlink()).endswith("-wal"):
                    os.dup2(bad, int(entry.name), inheritable=False)
                    count += 1
        os.close(bad)
        os.write(1, f"broke {count} at time {next(TIMES)}\n".encode())  # one write, which no thread can split

    return breaks


signal.signal(signal.SIGUSR1, broken(os.O_PATH, "/"))
signal.signal(signal.SIGUSR2, broken(os.O_RDWR, os.devnull))
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
