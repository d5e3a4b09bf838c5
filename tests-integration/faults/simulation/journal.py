"""The events of a schedule as its handlers and clients saw them, and the violations found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import attrs
from history import Event
from journal import Answer, How
from wrong import Wrong, WrongInside

from jobq_core.context import JobContext
from jobq_core.events import JobAborted, JobCompleted, JobFailed, RunEvent
from jobq_core.states import FINISHED, JobState

from .process import Process
from .world import World

if TYPE_CHECKING:
    from .truth import Truth

STATES = {JobCompleted: JobState.COMPLETED, JobFailed: JobState.FAILED, JobAborted: JobState.ABORTED}
"""The state that each terminal event announces."""
STARTLED = 0.1
"""Seconds that a resumed process may take to stop the runs whose leases it lost during the pause."""


@attrs.frozen
class Violation:
    """A broken promise. name: as the checker names it."""

    name: str
    text: str
    at: float


@attrs.define(eq=False)
class Add:
    """One call of `add`; its answer is 'unknown' until it arrives."""

    token: int
    asked: float
    unique_key: str | None
    answer: Answer = "unknown"
    answered: float = float("inf")
    job: UUID | None = None
    created: bool = True


@attrs.define(eq=False)
class Run:
    """One run of a handler. told: it was asked to stop; what it does afterwards is not checked. percent: the last
    progress that it reported, if any."""

    token: int
    job: UUID
    lease: int
    attempt: int
    worker: UUID
    process: Process
    started: float
    ended: float | None = None
    how: How | None = None
    told: bool = False
    percent: float | None = None


class Journal:
    """Handlers and clients write it while a schedule runs; the verdict reads it at the end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.truth: Truth
        self.adds: list[Add] = []
        self.runs: list[Run] = []
        self.results: list[tuple[str, UUID, Any]] = []
        """What each waiter was told: (client, job, and the job's result, its error or the error's type)."""
        self.events: list[Event] = []
        self.violations: list[Violation] = []
        self._active: dict[str, set[Run]] = {}
        self._starts: dict[str, list[float]] = {}

    def violated(self, name: str, text: str) -> None:
        """Record a broken promise."""
        self._world.note("CHECK", f"VIOLATED: {name}: {text}")
        self.violations.append(Violation(name, text, self._world.now))

    def adding(self, token: int, unique_key: str | None) -> Add:
        """Record that a client adds a job. The caller writes the answer into the returned Add."""
        add = Add(token, self._world.now, unique_key)
        self.adds.append(add)
        return add

    def notified(self, listener: str, event: RunEvent) -> None:
        """Record a terminal event."""
        self.events.append(Event(listener=listener, job=event.job_id, state=STATES[type(event)], at=self._world.now))

    def begin(self, process: Process, context: JobContext, token: int) -> Run:
        """Record that a handler starts."""
        assert context.worker is not None
        run = Run(token, context.job_id, context.lease, context.attempt, context.worker, process, self._world.now)
        self._world.note(process.name, "runs job %d, attempt %d, under lease %d", token, run.attempt, run.lease)
        self.runs.append(run)
        self._active.setdefault(process.name, set()).add(run)
        if self._world.now - process.resumed > STARTLED:  # otherwise the limiter may have counted it before the pause
            self._starts.setdefault(process.name, []).append(self._world.now)
        self._check_lease(run)
        lease = self.truth.leases[run.lease]
        if lease.needs_mark and lease.marked is None:
            self.violated(WrongInside.UNMARKED, f"{process.name} runs job {run.job} under {lease}")
        self._check_limits(process)
        return run

    def go_on(self, run: Run) -> None:
        """Check that a running handler still holds its lease."""
        if not run.told:
            self._check_lease(run)

    def tell(self, run: Run) -> None:
        """Record that a handler was told to stop: it may go on for a while, but its run is over."""
        run.told = True
        self._over(run, "stopped")

    def end(self, run: Run, how: How) -> None:
        """Record that a handler ends by itself."""
        self._over(run, how)

    def _over(self, run: Run, how: How) -> None:
        run.how, run.ended = how, self._world.now
        self._active[run.process.name].discard(run)
        self._world.note(run.process.name, "ends job %d under lease %d: %s", run.token, run.lease, how)

    def _check_lease(self, run: Run) -> None:
        truth, now = self.truth, self._world.now
        if truth.is_held(run.lease, run.job):
            return
        lease = truth.leases.get(run.lease)
        if lease is not None and lease.ended is not None:
            if lease.ended_by in ("delete", "clear"):
                return  # the worker learns of it soon
            if run.process.resumed >= lease.ended and now - run.process.resumed <= STARTLED:
                return  # a paused process cannot stop its runs; it stops them once it is resumed
        state = truth.state_of(run.job)
        if state is None or state in FINISHED:
            name: str = Wrong.AFTER_THE_END
        elif state is JobState.PROCESSING:
            name = Wrong.DOUBLY_OWNED
        else:
            name = WrongInside.WITHOUT_LEASE
        self.violated(
            name, f"{run.process.name} runs job {run.job} under lease {run.lease}: {lease}; the job is {state}"
        )

    def _check_limits(self, process: Process) -> None:
        limits = process.limits
        if len(self._active[process.name]) > limits.concurrency:
            self.violated(Wrong.LIMIT, f"{process.name} runs {len(self._active[process.name])} jobs at once")
        if limits.rate is not None:
            count, per = limits.rate
            # The limiter counts a run some turns of the loop before the handler's first step.
            recent = [start for start in self._starts.get(process.name, ()) if start > self._world.now - per + 0.05]
            if len(recent) > count:
                self.violated(Wrong.LIMIT, f"{process.name} started {len(recent)} runs within {per} s")
