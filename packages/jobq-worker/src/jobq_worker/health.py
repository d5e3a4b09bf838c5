"""What a worker says of its own health."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import attrs

WorkerState = Literal["new", "starting", "running", "stopping", "stopped"]


@attrs.frozen(kw_only=True)
class WorkerHealth:
    """How a worker is.

    alive: it surely counts as alive, so it may start jobs. since_beat: seconds since its last heartbeat that worked.
    storage_failing: some part of it cannot reach the storage now; storage_failing_for is then for how many seconds, and
    storage_error the last error. storage_errors: how many calls failed since the worker was made. leads: it does the
    maintenance for all. warnings: what keeps the storage from its promises and should be mended, though all works: see
    `QueueStorage.warnings`.
    """

    state: WorkerState
    worker: UUID | None = None
    alive: bool = False
    since_beat: float | None = None
    storage_failing: bool = False
    storage_failing_for: float | None = None
    storage_error: str | None = None
    storage_errors: int = 0
    leads: bool = False
    running: int = 0
    buffered: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether it runs, counts as alive, and reaches the storage."""
        return self.state == "running" and self.alive and not self.storage_failing
