"""Batches of jobs: each job of a batch is a run of its own, and their handlers' one call is shared.

    run ─┐
    run ─┼─► JobBatch: one slot, one call of the handler with a list of jobs
    run ─┘

A run joins the batch that gathers jobs of its kind, and waits there for its own answer. So each job has its own
context, middleware, timer, settlement and retry, as every job has, and only the call is the batch's.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, TypeAlias

import attrs

from jobq_core.batch_handlers import Answer, answers_of, answers_of_error, only_answer
from jobq_core.current import running
from jobq_core.errors import JobTimeoutError
from jobq_core.job import Job, JobDefinition
from jobq_worker.around.invoke import invoke_function
from jobq_worker.own_threads import run_in_thread
from jobq_worker.running.run import Run, RunContext, Stop
from jobq_worker.running.slots import SharedSlot, Slot
from jobq_worker.stacks import task_stack, thread_stack

_TOGETHER: Final = frozenset({Stop.TIMEOUT, Stop.RELEASE})
"""The reasons to stop one run of a batch that stop the batch: its jobs must not run again while its handler goes on."""

_Answered: TypeAlias = tuple[Any, BaseException | None, TracebackType | None]
"""An answer, with the traceback that its error had when the handler ended: one error may be raised for several jobs."""


@attrs.define(eq=False)
class _Member:
    """One job of a batch. answer: a future of its result or error, and of the error's traceback."""

    run: Run
    context: RunContext
    answer: asyncio.Future[_Answered]
    resources: dict[str, Any]
    gone: bool = False


class JobBatch(SharedSlot):
    """One batch: it gathers runs until it is full or `wait` seconds old, and calls the handler once all have arrived.

    real: the slot that it takes. closed: called when the batch takes no more runs.
    """

    __slots__ = (
        "_closed",
        "_definition",
        "_gathered",
        "_loop",
        "_on_close",
        "_started_at",
        "_stopped_by",
        "_task",
        "_thread",
        "_timer",
    )

    def __init__(self, real: Slot, definition: JobDefinition, closed: Callable[[], object]) -> None:
        super().__init__(real)
        self._loop = asyncio.get_running_loop()
        self._definition = definition
        self._on_close = closed
        self._gathered: list[_Member] = []
        self._task: asyncio.Task[list[Answer]] | None = None
        self._thread: int | None = None
        self._started_at = 0.0
        self._stopped_by: Stop | None = None
        self._closed = False
        self._timer = self._loop.call_later(definition.batch_wait, self.close)

    @property
    def room(self) -> int:
        """How many more runs it takes."""
        size = self._definition.batch
        assert size is not None
        return 0 if self._closed else size - self.members

    def enter(self, run: Run) -> None:
        """Take a run, which is started next with this batch as its slot: its handler calls `join`."""
        if self.members == 0:
            self.real.job = run.job
            self.real.started = self._loop.time()
        self.members += 1
        if self.room == 0:
            self.close()

    def close(self) -> None:
        """Take no more runs."""
        if not self._closed:
            self._closed = True
            self._timer.cancel()
            self._on_close()
            self._start_if_complete()

    def stack(self, thread: int) -> str:
        """Return where the handler of the batch is. thread: that of the event loop."""
        task = self._task
        if task is None:
            return "  (it waits for more jobs)\n"
        if self._definition.is_async:
            return task_stack(task, thread)
        return "  (the handler has not begun)\n" if self._thread is None else thread_stack(self._thread)

    def left(self) -> None:
        """Take note that a run has ended. A batch without runs gives its slot back, and takes no more."""
        super().left()
        if self.members == 0:
            self.close()
        else:
            self._start_if_complete()

    async def join(self, run: Run, context: RunContext, resources: dict[str, Any]) -> Any:
        """Wait for the batch to answer one of its jobs: return its result or raise its error."""
        member = _Member(run, context, self._loop.create_future(), resources)
        self._gathered.append(member)
        self._start_if_complete()
        try:
            result, error, trace = await member.answer
        except asyncio.CancelledError:
            result, error, trace = await self._leave(member)
        finally:
            self._share_time(run)
        if error is not None:
            raise error.with_traceback(trace)
        return result

    def _start_if_complete(self) -> None:
        """Call the handler once the batch is closed and each of its runs has joined or ended."""
        if self._closed and self._task is None and self._gathered and len(self._gathered) == self.members:
            self._started_at = self._loop.time()
            context = contextvars.copy_context()
            context.run(running.set, None)  # the handler is of no single job
            self._task = self._loop.create_task(self._call(), context=context)
            self._task.add_done_callback(self._answer)

    async def _call(self) -> list[Answer]:
        definition, members = self._definition, self._gathered
        call = _call_of(definition, [member.run for member in members], members[0].resources)
        try:
            returned = await (call() if definition.is_async else run_in_thread("jobq-batch", self._begin, call))
        except GeneratorExit:
            raise  # the interpreter discards the task of a closed loop
        except BaseException as error:  # noqa: BLE001  (whatever a handler raises is the jobs' error, not the worker's)
            return answers_of_error(definition.kind, error, len(members))
        return answers_of(definition.kind, returned, len(members))

    def _begin(self, call: Callable[[], Any]) -> Any:
        self._thread = threading.get_ident()
        return call()

    def _answer(self, task: asyncio.Task[list[Answer]]) -> None:
        members = self._gathered
        answers = [(None, asyncio.CancelledError())] * len(members) if task.cancelled() else task.result()
        for member, (result, error) in zip(members, answers, strict=True):
            if member.answer.done():
                continue
            if error is not None and self._stopped_by is Stop.TIMEOUT:
                error = JobTimeoutError("another job of its batch took longer than its timeout")
            member.answer.set_result(_with_trace((result, error)))

    async def _leave(self, member: _Member) -> _Answered:
        """Take out a run that was asked to stop. If it stops the batch, or is its last, wait for the handler's end.

        Raises CancelledError. Only a handler in a thread that ended without noticing that the job was to be released
        has completed it: returns its answer.
        """
        task, run = self._task, member.run
        if task is None:
            self._gathered.remove(member)  # the batch starts without it
            raise asyncio.CancelledError
        member.gone = True
        stop = run.stop
        if stop in _TOGETHER or all(each.gone for each in self._gathered):
            if self._stopped_by is None:
                self._stopped_by = stop or Stop.RELEASE
                for each in self._gathered:
                    each.context.request_stop()
                if self._definition.is_async:
                    task.cancel()
            await asyncio.wait([task])
            if stop is Stop.RELEASE and not self._definition.is_async and not member.context.told:
                run.stop = None
                return _with_trace(task.result()[self._gathered.index(member)])
        elif member.resources and member is self._gathered[0]:
            await asyncio.wait([task])  # its resources are those of the call, and must not be closed before its end
        raise asyncio.CancelledError

    def _share_time(self, run: Run) -> None:
        """Count for one run its share of the time that the batch took."""
        now = self._loop.time()
        run.started = now - (now - self._started_at) / len(self._gathered) if self._started_at else now


def _with_trace(answer: Answer) -> _Answered:
    return (*answer, None if answer[1] is None else answer[1].__traceback__)


def member_of_batch(definition: JobDefinition) -> JobDefinition:
    """Return the definition of one run of a batch: its handler joins the run's batch."""

    async def handler(job: Job[Any], context: RunContext, **resources: Any) -> Any:
        run: Any = running.get()
        return await run.slot.join(run, context, resources)

    return attrs.evolve(definition, handler=handler, wants_context=True, is_async=True, executor="async", batch=None)


def call_batch(definition: JobDefinition, runs: Sequence[Run]) -> None:
    """Call a sync batch handler in this thread, without what the worker puts around each job; set the outcomes."""
    call, kind, count = _call_of(definition, runs, {}), definition.kind, len(runs)
    try:
        answers = answers_of(kind, call(), count)
    except BaseException as error:  # noqa: BLE001  (whatever a handler raises is the jobs' error)
        answers = answers_of_error(kind, error, count)
    for run, answer in zip(runs, answers, strict=True):
        run.handler = attrs.evolve(run.handler, function=lambda _job, _context, answer=answer: only_answer([answer]))
        invoke_function(run)


def _call_of(definition: JobDefinition, runs: Sequence[Run], resources: dict[str, Any]) -> Callable[[], Any]:
    """Return the call of a batch handler with these runs."""
    handler = definition.handler
    assert handler is not None  # the worker has no kind without a handler
    lists: list[Any] = [[run.arguments for run in runs]]
    if definition.wants_context:
        lists.append([run.make_context() for run in runs])
    return partial(handler, *lists, **resources)
