"""What happened, as the handlers and the clients saw it, and what must not have."""

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
"""The terminal events, and the state that each reports."""
STARTLED = 0.1
"""Seconds in which a process that was held must have stopped the runs whose leases it lost meanwhile."""


@attrs.frozen
class Violation:
    """A promise that was not kept, under the name that the checker gives it."""

    name: str
    text: str
    at: float


@attrs.define(eq=False)
class Add:
    """One call of `add`, whose answer is unknown until it comes."""

    token: int
    asked: float
    unique_key: str | None
    answer: Answer = "unknown"
    answered: float = float("inf")
    job: UUID | None = None
    created: bool = True


@attrs.define(eq=False)
class Run:
    """One run of a handler. told: it was asked to stop, and what it does from then on counts for nothing."""

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


class Journal:
    """Written by handlers and clients while a schedule runs; read by the verdict at its end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.truth: Truth
        self.adds: list[Add] = []
        self.runs: list[Run] = []
        self.results: list[tuple[str, UUID, Any]] = []
        """What a waiter was told: who, of which job, and its result, or the error or its type."""
        self.events: list[Event] = []
        self.violations: list[Violation] = []
        self._active: dict[str, set[Run]] = {}
        self._starts: dict[str, list[float]] = {}

    def violated(self, name: str, text: str) -> None:
        """Note that a promise was not kept."""
        self._world.note("CHECK", f"VIOLATED: {name}: {text}")
        self.violations.append(Violation(name, text, self._world.now))

    def adding(self, token: int, unique_key: str | None) -> Add:
        """Note that a client adds a job. The result is written into the returned value."""
        add = Add(token, self._world.now, unique_key)
        self.adds.append(add)
        return add

    def received(self, listener: str, event: RunEvent) -> None:
        """Note a terminal event."""
        self.events.append(Event(listener=listener, job=event.job_id, state=STATES[type(event)], at=self._world.now))

    def begin(self, process: Process, context: JobContext, token: int) -> Run:
        """Note that a handler starts."""
        assert context.worker is not None
        run = Run(token, context.job_id, context.lease, context.attempt, context.worker, process, self._world.now)
        self._world.note(process.name, "runs %d, attempt %d, under lease %d", token, run.attempt, run.lease)
        self.runs.append(run)
        self._active.setdefault(process.name, set()).add(run)
        if self._world.now - process.resumed > STARTLED:  # else its limiter may have counted it before the pause
            self._starts.setdefault(process.name, []).append(self._world.now)
        self._check_lease(run)
        lease = self.truth.leases[run.lease]
        if lease.is_noted and lease.noted is None:
            self.violated(WrongInside.UNNOTED, f"{process.name} runs job {run.job} under {lease}")
        self._check_limits(process)
        return run

    def go_on(self, run: Run) -> None:
        """Note that a handler is at work."""
        if not run.told:
            self._check_lease(run)

    def tell(self, run: Run) -> None:
        """Note that a handler was told to stop: it may go on for a while, but its run is over."""
        run.told = True
        self._over(run, "stopped")

    def end(self, run: Run, how: How) -> None:
        """Note that a handler ends by itself."""
        self._over(run, how)

    def _over(self, run: Run, how: How) -> None:
        run.how, run.ended = how, self._world.now
        self._active[run.process.name].discard(run)
        self._world.note(run.process.name, "ends %d under lease %d: %s", run.token, run.lease, how)

    def _check_lease(self, run: Run) -> None:
        truth, now = self.truth, self._world.now
        if truth.is_held(run.lease, run.job):
            return
        lease = truth.leases.get(run.lease)
        if lease is not None and lease.ended is not None:
            if lease.ended_by in ("delete", "clear"):
                return  # the worker is told soon
            if run.process.resumed >= lease.ended and now - run.process.resumed <= STARTLED:
                return  # nobody can stop what is held; it stops when it learns of it
        state = truth.state_of(run.job)
        if state is None or state in FINISHED:
            name: str = Wrong.AFTER_THE_END
        elif state is JobState.PROCESSING:
            name = Wrong.DOUBLY_OWNED
        else:
            name = WrongInside.WITHOUT_LEASE
        self.violated(
            name, f"{run.process.name} runs job {run.job} under lease {run.lease}: {lease}; now it is {state}"
        )

    def _check_limits(self, process: Process) -> None:
        limits = process.limits
        if len(self._active[process.name]) > limits.concurrency:
            self.violated(Wrong.LIMIT, f"{process.name} runs {len(self._active[process.name])} at once")
        if limits.rate is not None:
            count, per = limits.rate
            # Between the limiter's note and the handler's first step lie some turns of the loop.
            recent = [start for start in self._starts.get(process.name, ()) if start > self._world.now - per + 0.05]
            if len(recent) > count:
                self.violated(Wrong.LIMIT, f"{process.name} started {len(recent)} runs within {per} s")
