"""`Run`: one execution of one job, from claim to settlement; `Handler` and `Executor`, which carry it out."""

from __future__ import annotations

import abc
import asyncio
import threading
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, ClassVar, Final, TypeAlias

import attrs
from msgspec import Struct

from jobq_core.checks import Seconds
from jobq_core.context import JobContext
from jobq_core.errors import ConfigurationError
from jobq_core.job import Job, JobDefinition
from jobq_core.records import Progress
from jobq_core.storage import ClaimedJob, Settlement
from jobq_worker.around.around import Around
from jobq_worker.running.outcomes import Outcome
from jobq_worker.running.slots import Slot

_making_context: Final = threading.Lock()


class Stop(Enum):
    """Why a run is asked to stop before its handler is done."""

    ABORT = "abort"
    DISABLE = "disable"
    TIMEOUT = "timeout"
    DEADLINE = "deadline"
    RELEASE = "release"
    """The worker stops, or could not renew its lease in time: the job is released, to run again."""
    LOST = "lost"
    """The lease is over: another worker may run the job, and nothing is settled here."""


class Executor(abc.ABC):
    """Runs handlers, one per run. All methods are called on the event loop and return at once.

    When a handler has ended, the executor calls the function it was made with, once, on the event loop; the run's
    `outcome` is then set (None: settle nothing). Runs that were abandoned before may end unnoticed.
    """

    name: ClassVar[str]
    """The executor's name in `@job(executor=…)`."""
    runs_coroutines: ClassVar[bool | None]
    """Whether its handlers are coroutine functions or others; None for both."""
    kill_seconds: ClassVar[float] = 0.0
    """Time after which `stop` kills a handler that goes on; 0 if it cannot."""
    reports_start: ClassVar[bool] = False
    """Whether it says when a handler is called, from which the timeout then counts."""

    calls_here: ClassVar[bool] = True
    """Whether it calls handlers in this process, with what is around them."""

    @classmethod
    def check(cls, definition: JobDefinition, around: Around) -> None:
        """Raise ConfigurationError if the executor cannot run the handler of a job with what is around it."""
        if cls.runs_coroutines not in (None, definition.is_async):
            nature = "a coroutine function" if definition.is_async else "not a coroutine function"
            fitting = "async" if definition.is_async else "thread"
            raise ConfigurationError(
                f"job {definition.kind!r} is {nature} and cannot run with executor={cls.name!r}; use {fitting!r}"
            )

    def prepare(self, handlers: Sequence[Handler], around: Around) -> None:  # noqa: B027  (most need nothing)
        """Take the handlers that it will run, and what is around them; called once, before `open`."""

    def open(self) -> None:  # noqa: B027
        """Begin to start what the first run needs; called when the worker starts to claim."""

    @abc.abstractmethod
    def start(self, run: Run) -> None:
        """Run the handler."""

    @abc.abstractmethod
    def stop(self, run: Run) -> None:
        """Ask a handler to end soon; `run.stop` has the reason. A handler that ignores this runs to its end."""

    def stack(self, run: Run) -> str:
        """Return where the handler of a run is, without the values of variables. Called in any thread, and may wait a
        few seconds."""
        return "  (this executor shows no stacks)\n"

    @abc.abstractmethod
    def close(self) -> None:
        """Release threads, tasks and processes. A handler that still runs is abandoned, or killed with its process."""

    async def wait_closed(self) -> None:  # noqa: B027
        """After `close`: wait until what it released has ended."""


AddFollowUp: TypeAlias = "Callable[[Run, Settlement], None]"


@attrs.define(eq=False)
class Handler:
    """How to run one kind of job: its definition, the function to call, and where.

    function: takes the job, and the context too where `wants_context`; it includes what the worker puts around the
    handler. decode: returns the job value of stored arguments, as `JobDefinition.decode_arguments` does. declaration: a
    text that is equal for declarations that take the same arguments. add_follow_up: adds the job that follows the end
    of a run to its settlement. make_context: makes the context of a run.
    """

    definition: JobDefinition
    function: Callable[..., Any]
    executor: Executor
    decode: Callable[[bytes], Job[object]]
    declaration: str = ""
    wants_context: bool = False
    add_follow_up: AddFollowUp | None = None
    make_context: Callable[[Run], RunContext] = attrs.field(default=lambda run: RunContext(job_id=run.job.id))


class Run(Struct, eq=False, gc=False):
    """One claimed job and its state in this worker.

    Runs are made for every job, so they are structs that the garbage collector does not track; `unlink` clears the
    references back to a run, at its end. It has more than 12 attributes, so that a job
    costs one object and not several.

    taken_at: when it was claimed, and due: when its deadline passes, both by the event loop's clock. The deadline is
    counted from before the claim, so it is never later than the storage's. stop: why the run is asked to stop.
    progress: the last report that is not stored yet. outcome: how its handler ended. over: its settlement is under way;
    nothing that its handler does counts any more. written: the completion that its handler wrote in a transaction of
    its own, of which only the storage knows whether it was committed.
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
    progress: Progress | None = None
    outcome: Outcome | None = None
    settlement: Settlement | None = None
    written: Settlement | None = None
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    handler: Handler = None  # type: ignore[assignment]  # set when the run gets its slot

    def make_context(self) -> RunContext:
        """Return the run's context, and make it if nothing has asked for it before. May be called from any thread."""
        context = self.context
        if context is not None:
            return context
        with _making_context:
            if self.context is not None:
                return self.context
            context = self.handler.make_context(self)
            if self.over or self.outcome is not None:
                context.take_added()  # the run has ended: it adds no jobs, and must not keep the context
            else:
                self.context = context
        if self.stop is not None:
            context.request_stop()
        return context

    def unlink(self) -> None:
        """Drop all references back to this run."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        # Reading an attribute of a struct takes a tenth of the time that setting it takes.
        if self.task is not None or self.context is not None:
            self.task = self.context = None
        self.outcome = None


class RunContext(JobContext):
    """A context that records whether its handler has seen the request to stop."""

    told = False

    @property
    def aborted(self) -> bool:
        """Whether this run is asked to stop: aborted, timed out, or its worker stops or lost the lease."""
        if self._stop.is_set():
            self.told = True
        return self.told

    def wait_aborted(self, timeout: Seconds) -> bool:
        """See `JobContext.wait_aborted`."""
        super().wait_aborted(timeout)
        return self.aborted


def log_fields(job: ClaimedJob) -> dict[str, object]:
    """Return the fields that log records about a job carry (`extra=`)."""
    return {"job_id": str(job.id), "kind": job.kind, "queue": job.queue, "attempt": job.attempt}
