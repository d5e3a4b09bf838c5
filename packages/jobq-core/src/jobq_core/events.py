"""What happens, as typed values, and `EventSource`: how client, worker, server and JobQueue tell it.

    worker.on(JobFailed, alert)                      # sync or async callback, by type, subtypes included
    async for event in worker.events(JobCompleted):  # a stream, from the call on
    event = await worker.next_event(WorkerLost)      # the next one, from the call on

Sources make no event that nobody listens for (`wants`), so that listening is all that listening costs.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast
from uuid import UUID

from msgspec import Struct

from jobq_core.errors import ClosedError
from jobq_core.records import ErrorRecord, Progress, WorkerStats
from jobq_core.secret import show_without
from jobq_core.storage import RescuedJob

logger = logging.getLogger("jobq.events")


class Event(Struct, frozen=True, kw_only=True):
    """Anything that happened."""


class JobEvent(Event, frozen=True, kw_only=True):
    """Something happened to one job."""

    job_id: UUID
    kind: str
    queue: str


class JobAdded(JobEvent, frozen=True, kw_only=True):
    """A job was stored (created) or its unique key stood for one that was there already."""

    created: bool = True


class RunEvent(JobEvent, frozen=True, kw_only=True):
    """Something happened to one run of a job: the attempt's number, and the worker that has it."""

    attempt: int
    worker: UUID | None = None


class JobStarted(RunEvent, frozen=True, kw_only=True):
    """A handler was started."""


class JobProgressed(RunEvent, frozen=True, kw_only=True):
    """A handler said how far it is."""

    progress: Progress


class JobCompleted(RunEvent, frozen=True, kw_only=True):
    """A job ended well; result_json is its result as JSON."""

    result_json: bytes

    def __repr__(self) -> str:
        return show_without(self, "result_json")


class JobFailed(RunEvent, frozen=True, kw_only=True):
    """A job ended badly, for good."""

    error: ErrorRecord | None


class JobRetried(RunEvent, frozen=True, kw_only=True):
    """A run failed and the job will run again, in `delay` seconds or at `run_at`."""

    error: ErrorRecord | None
    delay: float | None = None
    run_at: datetime | None = None


class JobAborted(RunEvent, frozen=True, kw_only=True):
    """A job was stopped for good because somebody asked for it."""

    error: ErrorRecord | None = None


class JobDisabled(RunEvent, frozen=True, kw_only=True):
    """A job was put aside until somebody enables it."""

    error: ErrorRecord | None = None


class WorkerEvent(Event, frozen=True, kw_only=True):
    """Something happened to a worker."""

    worker: UUID
    name: str


class WorkerStarted(WorkerEvent, frozen=True, kw_only=True):
    """A worker is registered and claims jobs."""


class WorkerStopped(WorkerEvent, frozen=True, kw_only=True):
    """A worker has handed back what it held, and claims no more."""

    stats: WorkerStats


class WorkerLost(WorkerEvent, frozen=True, kw_only=True):
    """A worker gave no sign of life for `silent_for` seconds; these of its jobs were taken back."""

    silent_for: float
    jobs: tuple[RescuedJob, ...]


E = TypeVar("E", bound=Event)
Callback = Callable[[Any], object]


class EventStream(Generic[E]):
    """Events from the moment it was made; iterate it with `async for`, end it with `close()` or `async with`.

    It keeps every event until it is read: a reader that falls behind for ever uses memory for ever.
    """

    def __init__(self, source: EventSource, types: tuple[type[E], ...]) -> None:
        self._ready: deque[E] = deque()
        self._bell = asyncio.Event()
        self._closed = False
        self._cancels = [source.on(type_, self._put) for type_ in types]
        source._streams.add(self)
        self._source = source

    def _put(self, event: E) -> None:
        self._ready.append(event)
        self._bell.set()

    def close(self) -> None:
        """Hear no more; what is here already can still be read. May be called twice."""
        self._closed = True
        for cancel in self._cancels:
            cancel()
        self._source._streams.discard(self)
        self._bell.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        while not self._ready:
            if self._closed:
                raise StopAsyncIteration
            self._bell.clear()
            await self._bell.wait()
        return self._ready.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class EventSource:
    """Something that tells what happens. Callbacks run on the event loop; what one raises is logged, and stops no
    other."""

    def __init__(self) -> None:
        self._callbacks: dict[type[Event], list[Callback]] = {}
        self._heard: dict[type[Event], tuple[Callback, ...]] = {}
        self._streams: set[EventStream[Any]] = set()
        self._futures: set[asyncio.Future[Any]] = set()
        self._tasks: set[asyncio.Future[Any]] = set()

    def on(self, event_type: type[E], callback: Callable[[E], object | Awaitable[object]]) -> Callable[[], None]:
        """Call `callback` with each event of this type or a subtype; returns a function that ends it."""
        callbacks = self._callbacks.setdefault(event_type, [])
        entry: Callback = lambda event: callback(event)  # noqa: E731  (one callback may be given twice)
        callbacks.append(entry)
        self._heard.clear()

        def cancel() -> None:
            if entry in callbacks:
                callbacks.remove(entry)
                self._heard.clear()

        return cancel

    def once(self, event_type: type[E], callback: Callable[[E], object | Awaitable[object]]) -> Callable[[], None]:
        """Call `callback` with the next event of this type, and no other; returns a function that ends it before."""

        def first(event: E) -> object:
            cancel()
            return callback(event)

        cancel = self.on(event_type, first)
        return cancel

    def events(self, *event_types: type[E]) -> EventStream[E]:
        """Return a stream of the events of these types (default: all) from now on."""
        return EventStream(self, event_types or cast("tuple[type[E], ...]", (Event,)))

    def next_event(self, event_type: type[E]) -> asyncio.Future[E]:
        """Return an awaitable of the next event of this type from now on; ClosedError if the source closes first."""
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
        """Say whether anybody listens for this type; where not, the event need not be made."""
        return bool(self._listeners(event_type))

    def emit(self, event: Event) -> None:
        """Tell everybody who listens for this event's type or one that it is a subtype of."""
        for callback in self._listeners(type(event)):
            try:
                outcome = callback(event)
                if inspect.isawaitable(outcome):
                    task = asyncio.ensure_future(outcome)
                    self._tasks.add(task)
                    task.add_done_callback(self._finish)
            except Exception:
                logger.exception("a listener for %s failed", type(event).__name__)

    def close_events(self) -> None:
        """End all streams and waits; callbacks stay, for a source that starts again."""
        for stream in list(self._streams):
            stream.close()
        for future in list(self._futures):
            if not future.done():
                future.set_exception(ClosedError("closed while waiting for an event"))

    def _listeners(self, event_type: type[Event]) -> tuple[Callback, ...]:
        heard = self._heard.get(event_type)
        if heard is None:
            heard = tuple(c for type_ in event_type.__mro__ for c in self._callbacks.get(type_, ()))
            self._heard[event_type] = heard
        return heard

    def _finish(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a listener failed", exc_info=error)
