"""The resources that a measurement used: processor time of process trees; commits, log and dead rows of a server."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import psycopg

_TICK = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Reading:
    """The usage so far: processor seconds, commits, bytes of write-ahead log; None where it is unknown."""

    cpu: float | None = None
    commits: int | None = None
    wal: int | None = None

    def since(self, earlier: Reading) -> Reading:
        """Return the usage since an earlier reading."""
        return Reading(less(self.cpu, earlier.cpu), less(self.commits, earlier.commits), less(self.wal, earlier.wal))


def less(later: Any, earlier: Any) -> Any:
    """Return the difference of two readings; None if one of them is unknown."""
    return None if later is None or earlier is None else later - earlier


def processor_seconds(roots: Iterable[int]) -> float | None:
    """Return the processor seconds of these processes and their descendants, including ended ones.

    None on systems without /proc. An ended process counts once its parent has waited for it.
    """
    if not Path("/proc/self/stat").exists():
        return None
    used: dict[int, float] = {}
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name, in parentheses, may contain anything; the fields after it are numbers.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # the process has ended since the folder was listed
            children.setdefault(int(fields[1]), []).append(int(entry.name))
            used[int(entry.name)] = sum(map(int, fields[11:15])) / _TICK
    total = 0.0
    left = list(roots)
    while left:
        pid = left.pop()
        total += used.get(pid, 0.0)
        left += children.get(pid, [])
    return total


def parent_of(pid: int) -> int | None:
    """Return the parent of a process; None if it is unknown."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except FileNotFoundError:
        return None


class Meter:
    """Measures nothing: a storage without a server works in the contestants' processes."""

    def read(self) -> Reading:
        """Return the usage so far."""
        return Reading()

    def dead_rows(self) -> int | None:
        """Return the current number of dead rows."""
        return None


class ProcessMeter(Meter):
    """Measures a server's processes."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def read(self) -> Reading:
        """Return processor seconds."""
        return Reading(cpu=processor_seconds([self._pid]))


class PostgresMeter(Meter):
    """Measures a server from a separate database, so that its own queries are not counted as commits."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._postmaster = parent_of(connection.info.backend_pid)
        self.database = ""
        self.url = ""

    def read(self) -> Reading:
        """Return the server's processor seconds and log, and the database's commits.

        The server counts commits when a session is idle for a second or ends.
        """
        row = self._connection.execute(
            "SELECT xact_commit, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint "
            "FROM pg_stat_database WHERE datname = %s",
            (self.database,),
        ).fetchone()
        assert row is not None
        cpu = None if self._postmaster is None else processor_seconds([self._postmaster])
        return Reading(cpu, row[0], row[1])

    def dead_rows(self) -> int | None:
        """Return the sum of the statistics of all tables."""
        with psycopg.connect(self.url) as connection:
            row = connection.execute("SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables").fetchone()
        return None if row is None else row[0]
