"""`Run`: one execution of one job, from its claim to its settlement."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING

from msgspec import Struct

from jobq_core.checks import Seconds
from jobq_core.context import JobContext
from jobq_core.job import Job
from jobq_core.storage import ClaimedJob, Settlement

if TYPE_CHECKING:
    from jobq_worker.handlers import Handler
    from jobq_worker.slots import Slot


class Stop(Enum):
    """Why a run is to stop before its handler is done."""

    ABORT = "abort"
    DISABLE = "disable"
    TIMEOUT = "timeout"
    DEADLINE = "deadline"
    RELEASE = "release"
    """The worker stops, or could not renew its lease in time: the job is handed back, to run again."""
    LOST = "lost"
    """The lease is over: the job belongs to others, and nothing is settled."""


class Run(Struct, eq=False, gc=False):
    """One claimed job and what became of it. Made for every job, so it is a struct, and out of the garbage collector's
    sight: whoever ends a run clears what refers back to it (see `unlink`).

    taken_at: when it came here, and due: when its deadline passes, both by the loop's clock. The deadline is reckoned
    from before the claim was asked for, so it never seems later than it is. stop: why it is to stop. outcome: how its
    handler ended. over: its settlement is on the way, so whatever its handler still does counts for nothing.
    """

    job: ClaimedJob
    taken_at: float
    due: float | None = None
    started: float = 0.0
    seconds: float = 0.0
    over: bool = False
    stop: Stop | None = None
    slot: Slot | None = None
    arguments: Job[object] | None = None
    context: RunContext | None = None
    outcome: Settlement | None = None
    settlement: Settlement | None = None
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    handler: Handler = None  # type: ignore[assignment]  # known from the start of the run on

    def unlink(self) -> None:
        """Let go of what refers back to this run: all that is left to do is to settle it."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.task = self.context = None


class RunContext(JobContext):
    """A context that remembers whether its handler has seen that it is to stop."""

    told = False

    @property
    def aborted(self) -> bool:
        """Whether this run is to stop: it was aborted, timed out, or its worker stops or lost the lease."""
        if self._stop.is_set():
            self.told = True
        return self.told

    def wait_aborted(self, timeout: Seconds) -> bool:
        """See `JobContext.wait_aborted`."""
        super().wait_aborted(timeout)
        return self.aborted
