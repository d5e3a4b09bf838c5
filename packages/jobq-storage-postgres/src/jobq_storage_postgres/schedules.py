"""When maintenance looks at what: the window of due jobs, and the partitions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from jobq_storage_postgres.binary import Params, pack_int8, pack_moment, texts, uuids

LATE: Final = timedelta(seconds=60)
"""How long a transaction that adds a scheduled job may stay open and the job still be promoted in time.

Jobs that were due longer than this before the last promotion are looked for once per `LATE` only: under a pinned
snapshot there are only dead rows.
"""
SLOW_SECONDS: Final = 0.25
"""Maximum duration of a scan of all deadlines after which the next scan covers all of them too."""
ALWAYS: Final = pack_int8(-(2**63))
"""The timestamp '-infinity'."""
DEFAULT_BYTES: Final = 128 * 1024 * 1024
"""Size of the default partitions beyond which no others are made; the function `make_partitions` has it too."""
TOO_LARGE: Final = (
    "no partitions are made, since the default partition exceeds 128 MiB, and pruning frees no disk space: prune or "
    "delete the jobs whose ids are older than the last weeks, then VACUUM FULL job_default, outcome_default and "
    "job_log_default"
)
PARTITIONS_EVERY_SECONDS: Final = 600.0
"""Time between two checks of the partitions."""


class PromotionWindow:
    """From which time on `promote` looks for due jobs."""

    def __init__(self) -> None:
        self.promoted_at: datetime | None = None
        """The storage's time of the last promotion after which no due job was left."""
        self.full_due = 0.0
        """The monotonic time at which `promote` looks at all due jobs again."""

    def since(self) -> bytes:
        """Return the beginning of the window, packed as timestamptz."""
        if self.promoted_at is None or time.monotonic() >= self.full_due:
            return ALWAYS
        return pack_moment(self.promoted_at - LATE)

    def record(self, since: bytes, now: datetime, *, more: bool) -> None:
        """Take the result of a promotion. more: whether due jobs may be left."""
        if more:
            self.promoted_at = None
            return
        self.promoted_at = now
        if since is ALWAYS:
            self.full_due = time.monotonic() + LATE.total_seconds()


class ExpirationWindow(PromotionWindow):
    """From which time on `expire` looks for deadlines that have passed.

    A job may come back from its run long after its deadline, so all are looked at each time, unless that takes long.
    """

    def __init__(self) -> None:
        super().__init__()
        self._began = 0.0

    def since(self) -> bytes:
        self._began = time.monotonic()
        return super().since()

    def record(self, since: bytes, now: datetime, *, more: bool) -> None:
        super().record(since, now, more=more)
        if since is ALWAYS:
            took = time.monotonic() - self._began
            pause = 0.0 if took < SLOW_SECONDS else min(20 * took, LATE.total_seconds())
            self.full_due = time.monotonic() + pause


class PruneProgress:
    """Where the next prune goes on in lines (queue, kind and state) whose oldest jobs are to be kept."""

    def __init__(self) -> None:
        self._next: list[tuple[str, str, str, UUID]] = []

    def params(self) -> Params:
        """Pack the places for `prune`."""
        return [
            *(texts([line[column] for line in self._next]) for column in (0, 1, 2)),
            uuids([job_id.bytes for *_, job_id in self._next]),
        ]

    def record(self, rows: Sequence[Any]) -> int:
        """Take the answer of `prune`, and return how many jobs it deleted."""
        self._next = [(queue, kind, state, job_id) for _, queue, kind, state, job_id in rows if queue is not None]
        count: int = rows[0][0]
        return count


class PartitionSchedule:
    """When the partitions are checked next, and whether they can be made.

    too_large: whether the default partition is too large for new partitions.
    """

    def __init__(self) -> None:
        self.too_large = False
        self._due = 0.0

    @property
    def warnings(self) -> tuple[str, ...]:
        """Texts for the health of a worker."""
        return (TOO_LARGE,) if self.too_large else ()

    def is_due(self) -> bool:
        """Return whether they are due, and count that as a check."""
        if time.monotonic() < self._due:
            return False
        self._due = time.monotonic() + PARTITIONS_EVERY_SECONDS
        return True
