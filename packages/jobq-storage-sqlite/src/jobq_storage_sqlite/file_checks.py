"""What is wrong with the files from outside: their disk, their names, their permissions, and the size of the log.

None of the files is opened here: closing any of them would end the locks that SQLite has on it in this process
(https://www.sqlite.org/howtocorrupt.html).
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from jobq_core.storage import Finding, Severity
from jobq_storage_sqlite.file_warnings import LOG_TOO_LARGE_BYTES

MOUNTS: Final = Path("/proc/self/mountinfo")
LOCKS: Final = Path("/proc/locks")

NETWORK: Final = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "glusterfs", "lustre", "gpfs", "beegfs"),
        *("fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.glusterfs", "fuse.ceph", "fuse.davfs", "fuse.grpcfuse"),
    }
)
"""File systems of other machines, whose processes share no memory with this one's."""

LEAST_FREE_BYTES: Final = 512 * 1024 * 1024
"""The room on the disk, in bytes, below which there is a finding."""

WRITE_LOCK: Final = (120, 120)
READ_LOCKS: Final = (123, 127)
"""The first and the last byte of the log's index whose locks writers and readers hold
(https://www.sqlite.org/walformat.html#wal_locks)."""

LOOK_SECONDS: Final = 0.1
"""The pause between two looks at who reads. Only a read that is there both times keeps the log."""

E, W = Severity.ERROR, Severity.WARNING


def examine(path: Path) -> list[Finding]:
    """Return what is wrong; of a file that is missing, nothing."""
    # SQLite follows links, and names the log after the file that it comes to.
    file = Path(os.path.realpath(path))
    try:
        found = file.stat()
    except OSError:
        return []
    checks = (_network(file, found.st_dev), _links(file, found.st_nlink), _disk(file), _access(file), _log(file))
    return [finding for check in checks for finding in check]


def writers(path: Path) -> list[str]:
    """Return the processes that hold the write lock, where the system tells."""
    return [_process(pid) for pid in sorted(_holders(_beside(Path(os.path.realpath(path)), "-shm"), WRITE_LOCK))]


def _network(file: Path, device: int) -> Iterator[Finding]:
    kind = _file_system(device)
    if kind in NETWORK:
        yield Finding(
            code="network-file-system",
            severity=E,
            subject=str(file),
            message=f"the file is on a network file system ({kind}), where SQLite's log and locks do not work: another "
            "machine that uses it damages it",
            remedy="move the file to a local disk, or use PostgreSQL",
        )


def _file_system(device: int) -> str | None:
    """Return the type of the file system of a device; None where the system does not tell."""
    numbers = f"{os.major(device)}:{os.minor(device)}"
    for line in _lines(MOUNTS):
        # https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
        fields, _, rest = line.partition(" - ")
        if fields.split()[2] == numbers:
            return rest.split()[0]
    return None


def _links(file: Path, links: int) -> Iterator[Finding]:
    if links > 1:
        yield Finding(
            code="hard-links",
            severity=E,
            subject=str(file),
            message=f"the file has {links} names (hard links): processes that open it by another name have a log of "
            "their own, and damage the file",
            remedy=f"find -samefile {file}; remove the other names",
        )


def _disk(file: Path) -> Iterator[Finding]:
    found = os.statvfs(file.parent)
    free, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    if free < LEAST_FREE_BYTES:
        yield Finding(
            code="disk-almost-full",
            severity=E,
            subject=str(file.parent),
            message=f"{free / 1e6:,.0f} MB of the disk's {size / 1e6:,.0f} MB are free: on a full disk nothing can be "
            "added, claimed or settled, and no job deleted",
            remedy=f"make room on the disk of {file.parent}",
        )


def _access(file: Path) -> Iterator[Finding]:
    names = [file.parent, file, _beside(file, "-wal"), _beside(file, "-shm")]
    denied = [str(name) for name in names if name.exists() and not os.access(name, os.W_OK)]
    if denied:
        yield Finding(
            code="not-writable",
            severity=E,
            subject=str(file),
            message=f"this user ({os.getuid()}) may not write to {', '.join(denied)}: no new process can open the file",
            remedy=f"chown or chmod {' '.join(denied)}; run all processes that use the file as one user",
        )


def _log(file: Path) -> Iterator[Finding]:
    log, index = _beside(file, "-wal"), _beside(file, "-shm")
    try:
        size = log.stat().st_size
    except OSError:
        return
    if size < LOG_TOO_LARGE_BYTES:
        return
    readers = _holders(index, READ_LOCKS)
    time.sleep(LOOK_SECONDS)
    readers &= _holders(index, READ_LOCKS)
    named = f" ({', '.join(map(_process, sorted(readers)))})" if readers else ""
    yield Finding(
        code="log-grows",
        severity=W,
        subject=str(log),
        message=f"the log has grown to {size / 1e6:,.0f} MB: it is not copied into the file while a connection keeps "
        f"a read transaction open{named}",
        remedy="end that transaction (a shell, a backup, a program that does not finish its SELECT); the log shrinks "
        "by itself",
    )


def _holders(file: Path, wanted: tuple[int, int]) -> set[int]:
    """Return the processes that hold locks on some of these bytes of a file; none where the system does not tell."""
    try:
        inode = str(file.stat().st_ino)
    except OSError:
        return set()
    held: set[int] = set()
    for line in _lines(LOCKS):
        # https://man7.org/linux/man-pages/man5/proc_locks.5.html: a process that waits has '->' before its type.
        fields = line.split()
        if len(fields) != 8 or fields[1] != "POSIX" or fields[5].rpartition(":")[2] != inode:
            continue
        first, last = int(fields[6]), wanted[1] if fields[7] == "EOF" else int(fields[7])
        if first <= wanted[1] and last >= wanted[0]:
            held.add(int(fields[4]))
    return held


def _process(pid: int) -> str:
    name = "".join(_lines(Path(f"/proc/{pid}/comm"))).strip()
    return f"pid {pid} {name}".strip()


def _lines(file: Path) -> Collection[str]:
    try:
        return file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ()


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)
