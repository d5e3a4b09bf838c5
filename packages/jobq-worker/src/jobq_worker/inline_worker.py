"""`InlineWorker`: runs the due jobs of a memory storage one at a time, for `jobq_core.testing.drain`.

It claims, calls and settles with the parts of a worker, and has no loops and threads of its own: nothing happens
between two calls.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import socket
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, Final, Self

from jobq_core.context import Nothing
from jobq_core.errors import ConfigurationError, JobTimeoutError, UnfitArgumentsError
from jobq_core.ids import new_id
from jobq_core.job import JobDefinition
from jobq_core.memory import MemoryQueueStorage
from jobq_core.records import Progress, WorkerInfo
from jobq_core.registry import Jobs
from jobq_core.states import Ending, JobState
from jobq_core.storage import (
    UNFIT_ARGUMENTS,
    UNKNOWN_KIND,
    Claim,
    ClaimedJob,
    ProgressReport,
    Settlement,
)
from jobq_core.testing import ManualClockStorage
from jobq_core.testing.declared import declared_kind
from jobq_core.testing.drained import Drained, DrainedRun
from jobq_core.testing.without_loop import run_to_end
from jobq_worker.around.around import Around
from jobq_worker.around.completions import completion, note_written
from jobq_worker.around.contexts import make_context
from jobq_worker.around.follow_ups import follow_failures
from jobq_worker.around.invoke import invoke_coroutine, invoke_function
from jobq_worker.running.handlers import Handlers
from jobq_worker.running.job_batches import JobBatch, call_batch
from jobq_worker.running.outcomes import Raised, Unstorable
from jobq_worker.running.run import Executor, Handler, Run, RunContext, Stop
from jobq_worker.running.slots import SharedSlot, Slot
from jobq_worker.settling.settlements import released, settlement_of, suspended
from jobq_worker.worker import JobQueueWorker

LOST_AFTER_SECONDS: Final = 86_400.0
"""Time after which another worker on the storage would take the jobs of this one, which has no heartbeat."""

_FAILURES: Final = frozenset({Ending.FAIL, Ending.RETRY})


class _Inline(Executor):
    """Stands for an executor: the `InlineWorker` itself calls the handlers."""

    def start(self, run: Run) -> None:
        raise NotImplementedError

    def stop(self, run: Run) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class _Coroutines(_Inline):
    name: ClassVar[str] = "async"
    runs_coroutines: ClassVar[bool | None] = True


class _Threads(_Inline):
    name: ClassVar[str] = "thread"
    runs_coroutines: ClassVar[bool | None] = False


class _Processes(_Inline):
    name: ClassVar[str] = "process"
    runs_coroutines: ClassVar[bool | None] = None


_EXECUTORS: Final = (_Coroutines(), _Threads(), _Processes())


class InlineWorker:
    """A worker inside `async with`, or inside `with in_this_thread()`, that runs the next due job at each `run_next`.

    The parameters are those of `jobq_core.testing.drain`. drained: what it has run.
    """

    def __init__(
        self,
        storage: MemoryQueueStorage,
        *,
        jobs: Jobs | None = None,
        worker: JobQueueWorker | None = None,
        queues: Sequence[str] | None = None,
        max_runs: int = 1000,
    ) -> None:
        if jobs is not None and worker is not None:
            raise ConfigurationError("give jobs or worker, not both: a worker has its jobs")
        self._storage = storage
        self._handlers: dict[str, Handler] = {}
        self._batches: dict[str, JobDefinition] = {}
        self._around = Around() if worker is None else worker.around
        self._known: Handlers | None = None  # all that are declared
        if jobs is not None or worker is not None:
            self._known = Handlers(jobs or ()) if worker is None else worker.handlers
        self._lifespan = self._around.lifespan(() if self._known is None else self._known.definitions())
        self._queues = None if queues is None else tuple(queues)
        self._turns: deque[str] = deque()
        self._max_runs = max_runs
        self._id = new_id()
        self._runs: list[DrainedRun] = []

    @property
    def drained(self) -> Drained:
        """What it has run."""
        return Drained(tuple(self._runs))

    async def __aenter__(self) -> Self:
        await self._lifespan.open()
        self._register()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deregister()
        await self._lifespan.close()

    @contextmanager
    def in_this_thread(self) -> Generator[asyncio.Runner, None, None]:
        """Return what runs coroutines in a thread without an event loop, on one that is made if it is needed."""
        with asyncio.Runner() as loop:
            if not self._lifespan.is_empty:
                loop.run(self._lifespan.open())
            self._register()
            try:
                yield loop
            finally:
                self._deregister()
                if not self._lifespan.is_empty:
                    loop.run(self._lifespan.close())

    def _register(self) -> None:
        if self._known is not None:
            self._add(self._known)
        info = WorkerInfo(
            id=self._id,
            name="drain",
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=self._queues or (),
            kinds=tuple(self._handlers),
            concurrency=1,
            lost_after=LOST_AFTER_SECONDS,
        )
        run_to_end(self._storage.register(info))

    def _deregister(self) -> None:
        run_to_end(self._storage.deregister(self._id))

    def _add(self, handlers: Handlers) -> None:
        self._handlers |= handlers.table(_EXECUTORS, self._around, self._context, self._lifespan.opened)
        self._batches |= handlers.batches()

    async def run_next(self) -> bool:
        """Run the next due job, or batch of jobs; returns whether there was one."""
        runs = self._claim()
        if not runs:
            return False
        try:
            if runs[0].handler.definition.is_async:
                await _await_handlers(runs, self._batches)
            else:
                await asyncio.to_thread(invoke_function, runs[0])
        except BaseException:  # the drain was cancelled
            for run in runs:
                self._settle(released(run.job))
            raise
        self._settle_runs(runs)
        return True

    def run_next_sync(self, loop: asyncio.Runner) -> bool:
        """Run the next due job, or batch of jobs, in this thread; returns whether there was one.

        loop: of `in_this_thread`.
        """
        runs = self._claim()
        if not runs:
            return False
        definition = self._batches.get(runs[0].job.kind)
        if definition is not None and not definition.is_async:
            contextvars.copy_context().run(call_batch, definition, runs)
        elif runs[0].handler.definition.is_async:
            loop.run(_await_handlers(runs, self._batches))
        else:
            contextvars.copy_context().run(invoke_function, runs[0])
        self._settle_runs(runs)
        return True

    def advance(self) -> bool:
        """Move the clock to the next moment at which a job is due; returns whether a job waits for one."""
        if not isinstance(self._storage, ManualClockStorage):
            raise ConfigurationError("advance=True moves the clock of a ManualClockStorage, and this one has none")
        next_in = run_to_end(self._storage.promote()).next_in
        if next_in is not None:
            self._storage.clock.advance(next_in)
        return next_in is not None

    def _claim(self) -> list[Run]:
        """Return the run of the next due job that can be run, and those of its batch; none if nothing is due."""
        run_to_end(self._storage.promote(limit=1_000_000))
        run_to_end(self._storage.expire(limit=1_000_000))
        run_to_end(self._storage.resolve(1_000_000, partial(follow_failures, make_id=new_id)))
        first = self._claim_run()
        if first is None:
            return []
        runs, definition = [first], self._batches.get(first.job.kind)
        if definition is not None and definition.batch is not None:
            while len(runs) < definition.batch and (run := self._claim_run(definition.kind)) is not None:
                runs.append(run)
        return runs

    def _claim_run(self, kind: str | None = None) -> Run | None:
        """Return the run of the next due job that can be run; settle those before it that cannot.

        kind: return None, and hand the job back, if it is of another kind.
        """
        while (job := self._claim_one()) is not None:
            if kind not in (None, job.kind):
                self._settle(released(job))
                return None
            try:
                self._check_runs(job)
                handler = self._handler_of(job)
            except BaseException:
                self._settle(released(job))
                raise
            if handler is None:
                self._note(job, self._settle(suspended(job, UNKNOWN_KIND)))
                continue
            run = Run(job, 0.0, handler=handler)
            try:
                run.arguments = handler.decode(job.arguments)
            except UnfitArgumentsError as error:
                self._note(job, self._settle(suspended(job, UNFIT_ARGUMENTS, handler.declaration)), error)
            except BaseException as error:  # noqa: BLE001  (types of the user's own decode here)
                run.outcome = Raised(error)
                self._settle_runs([run])
            else:
                return run
        return None

    def _check_runs(self, job: ClaimedJob) -> None:
        if len(self._runs) == self._max_runs:
            raise AssertionError(
                f"jobs are still due after {self._max_runs} runs, such as {job.kind} ({job.id}); raise max_runs, "
                "unless that is a job that adds itself without an end"
            )

    def _claim_one(self) -> ClaimedJob | None:
        """Return a job of the queue whose turn it is, or of those after it."""
        counted = run_to_end(self._storage.counts())
        found = set(counted if self._queues is None else self._queues)
        self._turns = deque([*(queue for queue in self._turns if queue in found), *sorted(found - set(self._turns))])
        known = tuple((kind, handler.declaration) for kind, handler in self._handlers.items())
        for queue in list(self._turns):
            claim = Claim.of(queue, limit=1, kinds=known)
            answer = run_to_end(self._storage.settle_and_claim(self._id, (), claim))
            self._turns.rotate(-1)
            if answer.claimed:
                return answer.claimed[0]
        return None

    def _handler_of(self, job: ClaimedJob) -> Handler | None:
        if job.kind in self._handlers or self._known is not None:
            return self._handlers.get(job.kind)
        definition = declared_kind(job.kind)
        if definition is None or definition.handler is None:
            why = (
                "is declared in no module that was imported"
                if definition is None
                else "has no `execute`: give the worker that has its handler, as in drain(client, worker=worker)"
            )
            raise ConfigurationError(f"job {job.kind!r} is due and cannot run: it {why}")
        self._add(Handlers([definition.job_type]))
        return self._handlers[job.kind]

    def _context(self, run: Run) -> RunContext:
        job = run.job

        def report(progress: Progress) -> None:
            run_to_end(
                self._storage.progress(self._id, [ProgressReport(id=job.id, lease=job.lease, progress=progress)])
            )

        def complete(connection: Any, result: Any) -> Nothing:
            settlement = completion(run, result)
            run_to_end(self._storage.complete(settlement, connection=connection))
            note_written(run, settlement)
            return Nothing()

        return make_context(run, worker=self._id, report=report, make_id=new_id, complete=complete)

    def _settle_runs(self, runs: Sequence[Run]) -> None:
        """Settle runs whose outcome is set, and note them."""
        for run in runs:
            self._settle_run(run)

    def _settle_run(self, run: Run) -> None:
        outcome = run.outcome
        assert outcome is not None
        settlement = settlement_of(run, outcome)
        assert settlement is not None  # no lease is lost here
        if run.handler.add_follow_up is not None:
            run.handler.add_follow_up(run, settlement)
        error: BaseException | None = None
        if settlement.ending in _FAILURES:
            if run.stop is Stop.TIMEOUT and settlement.error is not None:
                error = JobTimeoutError(settlement.error.message)
            elif isinstance(outcome, Raised | Unstorable):
                error = outcome.error
        self._note(run.job, self._settle(settlement), error)
        run.unlink()

    def _settle(self, settlement: Settlement) -> JobState | None:
        return run_to_end(self._storage.settle_and_claim(self._id, [settlement])).settled[0]

    def _note(self, job: ClaimedJob, state: JobState | None, error: BaseException | None = None) -> None:
        if state is None:
            return  # the job was deleted while it ran
        self._runs.append(
            DrainedRun(job_id=job.id, kind=job.kind, queue=job.queue, attempt=job.attempt, state=state, error=error)
        )


async def _await_handlers(runs: Sequence[Run], batches: Mapping[str, JobDefinition]) -> None:
    """Call the async handler of a run, or that of a batch of runs; set the outcomes."""
    definition = batches.get(runs[0].job.kind)
    if definition is not None:
        batch = JobBatch(Slot(0), definition, lambda: None)
        for run in runs:
            batch.enter(run)
            run.slot = batch
        batch.close()
    async with asyncio.TaskGroup() as tasks:
        for run in runs:
            tasks.create_task(_await_handler(run))


async def _await_handler(run: Run) -> None:
    """Call an async handler in a task of its own, for at most its timeout; set the outcome."""
    loop = asyncio.get_running_loop()
    task = run.task = loop.create_task(invoke_coroutine(run, _leave_batch))

    def stop() -> None:
        run.stop = Stop.TIMEOUT
        if run.context is not None:
            run.context.request_stop()
        task.cancel()

    timer = None if run.job.timeout is None else loop.call_later(max(0.0, run.job.timeout), stop)  # NaN is 0
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task])
        raise
    finally:
        if timer is not None:
            timer.cancel()


def _leave_batch(run: Run) -> None:
    if isinstance(run.slot, SharedSlot):
        run.slot.left()
