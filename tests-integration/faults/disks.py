"""Small disks, which only root can mount, and full disks."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from load_jobs import at_gate

from jobq_client import JobQueueClient
from jobq_core import StorageUnavailableError


@contextmanager
def small(folder: Path, megabytes: int) -> Iterator[None]:
    """Mount a disk on an empty folder while the block runs. Needs root and permission to mount a tmpfs."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "jobq-faults", folder]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, f"a small disk needs root and permission to mount a tmpfs: {made.stderr}"
    try:
        yield
    finally:
        # Unmount lazily: the test's processes end after this.
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Fill a disk while the block runs."""
    ballast = disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * 65536):
                    pass
            except OSError:
                pass  # the disk is full
        yield
    finally:
        ballast.unlink()


async def refused(url: str, words: str, seconds: float = 30) -> None:
    """Add jobs until an add fails with these words; the first adds may still fit into a reused log.

    The jobs added before the refusal run like all others. They are large, hence few, and end at once.
    """
    until = time.monotonic() + seconds
    said = "nothing"
    while time.monotonic() < until:
        try:
            async with JobQueueClient(url, patience=0) as client:
                while time.monotonic() < until:
                    await client.add_many([at_gate(token="full", gate="/" * 1500) for _ in range(100)])
        except StorageUnavailableError as error:
            said = str(error)
            if words in said:
                return
    raise AssertionError(f"the storage accepts jobs on a full disk, or it fails for another reason: {said}")
