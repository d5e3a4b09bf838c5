"""Typed events, and `EventSource`, which client, worker, server and JobQueue inherit to emit them.

    worker.on(JobFailed, alert)                      # a sync or async callback, by type, subtypes included
    async for event in worker.events(JobCompleted):  # a stream of the events after the call
    event = await worker.next_event(WorkerLost)      # the next event after the call

A source makes only the events that have a listener (`wants`): without listeners, events cost nothing.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, cast
from uuid import UUID

from msgspec import Struct

from jobq_core.errors import ClosedError
from jobq_core.records import ErrorRecord, Progress, WorkerStats
from jobq_core.secret import show_without
from jobq_core.storage import RescuedJob

logger = logging.getLogger("jobq.events")

MAX_CALLS: Final = 1000
"""Maximum number of calls of async callbacks that are under way at a time, for each source."""


class Event(Struct, frozen=True, kw_only=True):
    """The base of all events."""


class JobEvent(Event, frozen=True, kw_only=True):
    """An event of one job."""

    job_id: UUID
    kind: str
    queue: str


class JobAdded(JobEvent, frozen=True, kw_only=True):
    """A job was added. created: False if its unique key belonged to an existing job, which `job_id` names."""

    created: bool = True


class RunEvent(JobEvent, frozen=True, kw_only=True):
    """An event of one run of a job. attempt: the number of the run. worker: the worker that runs it."""

    attempt: int
    worker: UUID | None = None


class JobStarted(RunEvent, frozen=True, kw_only=True):
    """A handler started."""


class JobProgressed(RunEvent, frozen=True, kw_only=True):
    """A handler reported progress."""

    progress: Progress


class JobCompleted(RunEvent, frozen=True, kw_only=True):
    """A job completed. result_json: its result as JSON."""

    result_json: bytes

    def __repr__(self) -> str:
        return show_without(self, "result_json")


class JobFailed(RunEvent, frozen=True, kw_only=True):
    """A job failed, and is not retried."""

    error: ErrorRecord | None


class JobRetried(RunEvent, frozen=True, kw_only=True):
    """A run failed, and the job runs again in `delay` seconds or at `run_at`."""

    error: ErrorRecord | None
    delay: float | None = None
    run_at: datetime | None = None


class JobAborting(RunEvent, frozen=True, kw_only=True):
    """A running job was asked to abort. Its handler still runs; JobAborted follows when it has ended."""


class JobAborted(RunEvent, frozen=True, kw_only=True):
    """A job was aborted on request."""

    error: ErrorRecord | None = None


class JobDisabled(RunEvent, frozen=True, kw_only=True):
    """A job was disabled, and does not run until it is enabled."""

    error: ErrorRecord | None = None


class WorkerEvent(Event, frozen=True, kw_only=True):
    """An event of one worker."""

    worker: UUID
    name: str


class WorkerStarted(WorkerEvent, frozen=True, kw_only=True):
    """A worker registered and claims jobs."""


class WorkerStopped(WorkerEvent, frozen=True, kw_only=True):
    """A worker stopped: it released the jobs it held and claims no more."""

    stats: WorkerStats


class StatsUpdated(WorkerEvent, frozen=True, kw_only=True):
    """The statistics of a worker since its start, with each heartbeat (every `heartbeat_interval` seconds)."""

    stats: WorkerStats


class WorkerLost(WorkerEvent, frozen=True, kw_only=True):
    """A worker missed its heartbeat for `silent_for` seconds. jobs: those rescued from it."""

    silent_for: float
    jobs: tuple[RescuedJob, ...]


E = TypeVar("E", bound=Event)
Callback = Callable[[Any], object]


class EventStream(Generic[E]):
    """The events after it was made. Iterate it with `async for`; end it with `close()` or `async with`.

    It keeps each event until it is read: the memory of a reader that is always too slow grows without limit.
    """

    def __init__(self, source: EventSource, types: tuple[type[E], ...]) -> None:
        self._ready: deque[E] = deque()
        self._changed = asyncio.Event()
        self._closed = False
        self._cancels = [source.on(type_, self._put) for type_ in types]
        source._streams.add(self)
        self._source = source

    def _put(self, event: E) -> None:
        self._ready.append(event)
        self._changed.set()

    def close(self) -> None:
        """Stop receiving events. Those received before can still be read. May be called twice."""
        self._closed = True
        for cancel in self._cancels:
            cancel()
        self._source._streams.discard(self)
        self._changed.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        while not self._ready:
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._ready.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class EventSource:
    """An object that emits events. Callbacks run on the event loop.

    Whatever a callback raises, SystemExit and CancelledError included, is logged and stops nothing else. At most
    MAX_CALLS calls of async callbacks are under way at a time: while that many hang, events are kept from async
    callbacks.
    """

    def __init__(self) -> None:
        self._callbacks: dict[type[Event], list[Callback]] = {}
        self._listeners_of: dict[type[Event], tuple[Callback, ...]] = {}
        self._streams: set[EventStream[Any]] = set()
        self._futures: set[asyncio.Future[Any]] = set()
        self._calls: set[asyncio.Task[None]] = set()
        self._overloaded = False

    def on(self, event_type: type[E], callback: Callable[[E], object | Awaitable[object]]) -> Callable[[], None]:
        """Call `callback` with each event of this type or a subtype. Returns a function that removes the callback."""
        callbacks = self._callbacks.setdefault(event_type, [])
        entry: Callback = lambda event: callback(event)  # noqa: E731  (one callback may be given twice)
        callbacks.append(entry)
        self._listeners_of.clear()

        def cancel() -> None:
            if entry in callbacks:
                callbacks.remove(entry)
                self._listeners_of.clear()

        return cancel

    def once(self, event_type: type[E], callback: Callable[[E], object | Awaitable[object]]) -> Callable[[], None]:
        """Call `callback` with the next event of this type only. Returns a function that cancels that."""

        def first(event: E) -> object:
            cancel()
            return callback(event)

        cancel = self.on(event_type, first)
        return cancel

    def events(self, *event_types: type[E]) -> EventStream[E]:
        """Return a stream of the events of these types (default: all) after this call."""
        return EventStream(self, event_types or cast("tuple[type[E], ...]", (Event,)))

    def next_event(self, event_type: type[E]) -> asyncio.Future[E]:
        """Return an awaitable of the next event of this type. It raises ClosedError if the source closes."""
        future: asyncio.Future[E] = asyncio.get_running_loop().create_future()

        def resolve(event: E) -> None:
            if not future.done():
                future.set_result(event)

        def forget(_: object) -> None:
            cancel()
            self._futures.discard(future)

        cancel = self.once(event_type, resolve)
        self._futures.add(future)
        future.add_done_callback(forget)
        return future

    def wants(self, event_type: type[Event]) -> bool:
        """Return whether this type has a listener. An event without one need not be made."""
        listeners = self._listeners_of.get(event_type)
        return bool(self._listeners(event_type) if listeners is None else listeners)

    def emit(self, event: Event) -> None:
        """Call the listeners to the type of this event and to its supertypes."""
        for callback in self._listeners(type(event)):
            try:
                returned = callback(event)
                if inspect.isawaitable(returned):
                    self._start_call(event, returned)
            except KeyboardInterrupt:
                raise
            except BaseException:
                logger.exception("a listener to %s failed", type(event).__name__)

    def _start_call(self, event: Event, call: Awaitable[object]) -> None:
        if len(self._calls) >= MAX_CALLS:
            if inspect.iscoroutine(call):
                call.close()
            if not self._overloaded:
                self._overloaded = True
                logger.error(
                    "%d calls of async listeners have not ended; they miss events from %s on",
                    MAX_CALLS,
                    type(event).__name__,
                )
            return
        self._overloaded = False
        task = asyncio.get_running_loop().create_task(_call(event, call))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    def close_events(self) -> None:
        """End all streams and waits. Callbacks stay, since the source may start again."""
        for stream in list(self._streams):
            stream.close()
        for future in list(self._futures):
            if not future.done():
                future.set_exception(ClosedError("closed during a wait for an event"))

    def _listeners(self, event_type: type[Event]) -> tuple[Callback, ...]:
        listeners = self._listeners_of.get(event_type)
        if listeners is None:
            listeners = tuple(c for type_ in event_type.__mro__ for c in self._callbacks.get(type_, ()))
            self._listeners_of[event_type] = listeners
        return listeners


async def _call(event: Event, call: Awaitable[object]) -> None:
    """Wait for an async callback and log what it raises."""
    try:
        await call
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or is_cancellation(error):
            raise
        logger.exception("a listener to %s failed", type(event).__name__)


def is_cancellation(error: BaseException) -> bool:
    """Return whether an error ends the present task: it is cancelled, or discarded with its event loop.

    A CancelledError that a callback raised, without a cancellation of the task, does not.
    """
    if not isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs
        task = None
    return task is None or (isinstance(error, asyncio.CancelledError) and task.cancelling() > 0)
