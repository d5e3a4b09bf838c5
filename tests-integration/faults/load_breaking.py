"""A process whose connections to SQLite break when it is told to: `python load_breaking.py SCRIPT ARGUMENTS…`.

At SIGUSR1 nothing can be read from the log or written to it any more, at SIGUSR2 it is written to and never confirmed:
the kernel's own answers, to whoever uses the descriptors that SQLite has open by then.
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
    """Return what puts a descriptor of `path` in the place of each of the log's."""

    def breaks(*_: Any) -> None:
        bad = os.open(path, flags)
        count = 0
        for entry in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):
                if str(entry.readlink()).endswith("-wal"):
                    os.dup2(bad, int(entry.name), inheritable=False)
                    count += 1
        os.close(bad)
        os.write(1, f"broke {count} at time {next(TIMES)}\n".encode())  # in one piece, whoever else prints

    return breaks


signal.signal(signal.SIGUSR1, broken(os.O_PATH, "/"))
signal.signal(signal.SIGUSR2, broken(os.O_RDWR, os.devnull))
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
