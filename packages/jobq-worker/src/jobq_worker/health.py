"""The health of a worker, as it reports it itself."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import attrs

from jobq_worker.liveness.loop_watch import UNANSWERED_SECONDS

WorkerState = Literal["new", "starting", "running", "stopping", "stopped"]


@attrs.frozen(kw_only=True)
class WorkerHealth:
    """The state of a worker.

    broken: one of its background tasks has ended, so it must stop. alive: its leases are certain to be valid, so it may
    start jobs. lost_after: seconds without a heartbeat after which they are not. since_beat: seconds since its last
    successful heartbeat. storage_failing: calls of the storage, or of the limiter, fail; storage_failing_for: for how
    many seconds; storage_error: the last error. storage_errors: the number of calls that failed since the worker was
    made. `hears`: notifications of other processes arrive; without them it polls. leads: it does the maintenance.
    loop_lag: seconds for which its event loop has been blocked, 0 while it responds; measured by another thread. hung:
    the number of handlers that keep running past their time limit; exhausted: more than max_hung of them do. running:
    jobs that run; free: slots that run none. limited: seconds until the limiter may permit a start; None if it holds
    nothing back. lost_leases: runs that lost their lease before they were settled. lost_workers: those whose jobs it
    rescued.
    buffered: claimed jobs that wait for a slot. busy: ended runs that cannot be settled yet, since another transaction
    holds their jobs. refused_kinds: kinds of jobs that it could not take, see `WorkerStats`. warnings: settings that
    weaken the storage's guarantees, see `QueueStorage.warnings`; none while the worker is stopped.
    """

    state: WorkerState
    worker: UUID | None = None
    broken: bool = False
    alive: bool = False
    lost_after: float = 30.0
    since_beat: float | None = None
    storage_failing: bool = False
    storage_failing_for: float | None = None
    storage_error: str | None = None
    storage_errors: int = 0
    hears: bool = False
    leads: bool = False
    loop_lag: float = 0.0
    hung: int = 0
    exhausted: bool = False
    running: int = 0
    buffered: int = 0
    free: int = 0
    busy: int = 0
    limited: float | None = None
    lost_leases: int = 0
    lost_workers: int = 0
    refused_kinds: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether it runs, counts as alive, reaches the storage, its event loop answers, and few handlers hang."""
        return (
            self.state == "running"
            and self.alive
            and not self.storage_failing
            and not self.exhausted
            and self.loop_lag < UNANSWERED_SECONDS
        )
