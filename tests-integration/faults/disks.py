"""Small disks, which only root can make, and full ones."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small(folder: Path, megabytes: int) -> Iterator[None]:
    """Give an empty folder a disk of its own while the block runs. Needs root, and leave to mount a tmpfs."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "jobq-faults", folder]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, f"a small disk needs root, and leave to mount a tmpfs: {made.stderr}"
    try:
        yield
    finally:
        # Lazily: the test's processes end after this.
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Leave no room on a disk while the block runs."""
    ballast = disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * 65536):
                    pass
            except OSError:
                pass  # full
        yield
    finally:
        ballast.unlink()
