"""`Run`: one execution of one job, from its claim to its settlement."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING

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


class Run:
    """One claimed job and what became of it. Made for every job, so it is slots and nothing else.

    taken_at: when it came here, and due: when its deadline passes, both by the loop's clock. The deadline is reckoned
    from before the claim was asked for, so it never seems later than it is. stop: why it is to stop. outcome: how its
    handler ended. over: its settlement is on the way, so whatever its handler still does counts for nothing.
    """

    __slots__ = (
        "arguments",
        "context",
        "due",
        "handler",
        "job",
        "outcome",
        "over",
        "seconds",
        "settlement",
        "slot",
        "started",
        "stop",
        "taken_at",
        "task",
        "timer",
    )

    def __init__(self, job: ClaimedJob, asked_at: float, taken_at: float) -> None:
        self.job = job
        self.taken_at = taken_at
        self.due = None if job.deadline_in is None else asked_at + job.deadline_in
        self.started = 0.0
        self.seconds = 0.0
        self.over = False
        self.stop: Stop | None = None
        self.slot: Slot | None = None
        self.arguments: Job[object] | None = None
        self.context: RunContext | None = None
        self.outcome: Settlement | None = None
        self.settlement: Settlement | None = None
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.handler: Handler = None  # type: ignore[assignment]  # known from the start of the run on


class RunContext(JobContext):
    """A context that remembers whether its handler has seen that it is to stop."""

    told = False

    @property
    def aborted(self) -> bool:
        """Whether this run is to stop: it was aborted, timed out, or its worker stops or lost the lease."""
        if self._stop.is_set():
            self.told = True
        return self.told

    def wait_aborted(self, timeout: float) -> bool:
        """Sleep for up to `timeout` seconds in a thread handler; True as soon as the run is to stop."""
        self._stop.wait(timeout)
        return self.aborted
