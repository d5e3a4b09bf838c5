"""`JobQueueWorker`: claims jobs from a storage, runs them, and settles them."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack
from uuid import UUID

from jobq_core.checks import Seconds, check_seconds
from jobq_core.errors import ConfigurationError
from jobq_core.events import EventSource, WorkerStarted, WorkerStopped
from jobq_core.ids import new_id
from jobq_core.job import Job, JobDefinition
from jobq_core.records import WorkerInfo, WorkerStats
from jobq_core.storage import QueueStorage
from jobq_core.urls import as_storage, open_storage
from jobq_worker.handlers import Handlers
from jobq_worker.health import WorkerHealth, WorkerState
from jobq_worker.options import WorkerKeywords, WorkerOptions, check_concurrency, check_options
from jobq_worker.outages import Outages
from jobq_worker.session import WorkerSession
from jobq_worker.signals import Signals
from jobq_worker.slots import Slots, SlotStats

logger = logging.getLogger("jobq.worker")

F = TypeVar("F", bound=Callable[..., Any])


class JobQueueWorker(EventSource):
    """Runs jobs: `async with JobQueueWorker(storage, jobs=[…])`, or `start()` and `stop()`, or `run()` until a signal.

    storage: a URL, which is opened at each start and closed at each stop, or an open storage, which stays the caller's.
    options: all options as one checked value, instead of keywords.

    The keywords are the fields of `WorkerOptions`: jobs, queues, concurrency, limiter, retention, name,
    heartbeat_interval, lost_after, poll_interval and stop_timeout. Raises ConfigurationError for an option that does
    not exist or cannot work.
    """

    def __init__(
        self,
        storage: QueueStorage | str,
        options: WorkerOptions | None = None,
        **keywords: Unpack[WorkerKeywords],
    ) -> None:
        super().__init__()
        if options is None:
            options = check_options(type(self).__name__, keywords)
        elif keywords:
            raise ConfigurationError(f"{', '.join(keywords)}: give either options or keywords, not both")
        self._options = options
        self._url = storage if isinstance(storage, str) else None
        self._storage = as_storage(storage)
        self._opened = False
        self._handlers = Handlers(options.jobs)
        self._slots = Slots(options.concurrency)
        self._outages = Outages(f"worker {options.name}")
        self._state: WorkerState = "new"
        self._session: WorkerSession | None = None
        self._starting: asyncio.Future[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._id: UUID | None = None

    @property
    def id(self) -> UUID | None:
        """The id under which it is (or was last) registered; None before the first start."""
        return self._id if self._session is None else self._session.registration.id

    @property
    def name(self) -> str:
        """What people call it."""
        return self._options.name

    @property
    def queues(self) -> tuple[str, ...]:
        """Where it takes jobs from."""
        return self._options.queues or self._handlers.queues()

    @property
    def concurrency(self) -> int:
        """How many jobs it may run at the same time."""
        return len(self._slots)

    def handles(self, job_type: type[Job[Any]]) -> Callable[[F], F]:
        """Supply the body of a bare contract, a Job class without `execute`, by decorating a function of it.

        The function takes (job) or (job, context), and may be a coroutine function. Raises ConfigurationError for a
        kind that has a body, and once the worker has started.
        """

        def supply(body: F) -> F:
            if self._state not in ("new", "stopped"):
                raise ConfigurationError("handlers are supplied before the worker starts")
            self._handlers.supply(job_type, body)
            return body

        return supply

    async def start(self) -> None:
        """Register and begin to claim.

        Raises ConfigurationError for jobs that cannot run here, StorageError for a storage that cannot be used; the
        worker is then as it was before."""
        if self._state not in ("new", "stopped"):
            raise ConfigurationError(f"the worker is {self._state}; stop it before it is started again")
        definitions = self._handlers.definitions()
        before, self._state = self._state, "starting"
        self._starting = starting = asyncio.get_running_loop().create_future()
        try:
            await self._start(definitions)
        except BaseException:
            self._state = before
            raise
        finally:
            self._starting = None
            starting.set_result(None)

    async def _start(self, definitions: Sequence[JobDefinition]) -> None:
        info = WorkerInfo(
            id=new_id(),
            name=self._options.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=self.queues,
            kinds=tuple(definition.kind for definition in definitions),
            concurrency=len(self._slots),
            lost_after=self._options.lost_after,
        )
        if self._url is not None and self._opened:
            self._storage = open_storage(self._url)
        session = WorkerSession(
            self._storage,
            info,
            handlers=self._handlers,
            slots=self._slots,
            events=self,
            limiter=self._options.limiter,
            retention=self._options.retention_of(self.queues),
            outages=self._outages,
            heartbeat_interval=self._options.heartbeat_interval,
            poll_interval=self._options.poll_interval,
        )
        try:
            await self._open()
            await session.start()
        except BaseException:
            await self._close()
            raise
        self._session, self._id, self._stopping = session, info.id, None
        self._state = "running"
        for warning in self._storage.warnings:
            logger.warning("worker %s: %s", self._options.name, warning)
        logger.info(
            "worker %s (%s) started: %d at a time, queues %s, on %s",
            self._options.name,
            info.id,
            len(self._slots),
            ", ".join(info.queues),
            self._storage.url,
        )
        self.emit(WorkerStarted(worker=info.id, name=self._options.name))

    async def stop(self, timeout: Seconds | None = None) -> None:
        """Claim no more, let running jobs end for up to `timeout` seconds, then stop the others and hand them back.

        timeout: default stop_timeout. A second call while it stops shortens the wait. Does nothing on a worker that
        does not run."""
        patience = self._options.stop_timeout if timeout is None else check_seconds(timeout, "timeout")
        if self._starting is not None:
            await asyncio.wait([self._starting])
        session = self._session
        if session is None:
            return
        if self._stopping is None:
            self._state = "stopping"
            session.halt(patience)
            self._stopping = asyncio.get_running_loop().create_task(self._stop(session), name="jobq stop")
        else:
            session.hurry(patience)
        # Shielded: a caller that is cancelled must not leave half a worker behind.
        await asyncio.shield(self._stopping)

    async def _stop(self, session: WorkerSession) -> None:
        try:
            await session.stop()
        finally:
            self._id = session.registration.id
            self._session = None
            self._state = "stopped"
            try:
                await self._close()
            finally:
                self._tell_stopped(self._id)

    def _tell_stopped(self, id: UUID) -> None:
        stats = self.stats()
        logger.info(
            "worker %s (%s) stopped: %d completed, %d failed, %d retried, %d handed back",
            self._options.name,
            id,
            stats.completed,
            stats.failed,
            stats.retried,
            stats.released,
        )
        self.emit(WorkerStopped(worker=id, name=self._options.name, stats=stats))
        self.close_events()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then stop as `stop()` does; a second signal stops at once.

        Returns when the worker has stopped, by a signal or by `stop()`. Raises what `start` raises.
        """
        with Signals() as signals:
            await self.start()
            with _frozen():
                await self._until_stopped(signals)

    async def _until_stopped(self, signals: Signals) -> None:
        stopped = asyncio.Event()
        cancel = self.once(WorkerStopped, lambda _: stopped.set())
        first = asyncio.ensure_future(signals.wait())
        over = asyncio.ensure_future(stopped.wait())
        try:
            await asyncio.wait([first, over], return_when=asyncio.FIRST_COMPLETED)
            stopping = asyncio.ensure_future(self.stop())
            second = asyncio.ensure_future(signals.wait(2))
            await asyncio.wait([stopping, second], return_when=asyncio.FIRST_COMPLETED)
            second.cancel()
            if not stopping.done():
                await self.stop(0)
            await stopping
        except asyncio.CancelledError:
            await self.stop()
            raise
        finally:
            first.cancel()
            over.cancel()
            cancel()

    def resize(self, concurrency: int) -> None:
        """Run this many jobs at the same time from now on; 0 pauses. Jobs that run beyond it are let end.

        Raises ConfigurationError for a negative number.
        """
        count = check_concurrency(concurrency)
        if self._session is None:
            self._slots.resize(count)
        else:
            self._session.resize(count)

    def stats(self) -> WorkerStats:
        """Return what it did since it was made, over all its starts."""
        return self._slots.stats()

    def slots(self) -> list[SlotStats]:
        """Return what each of its slots did and does."""
        return self._slots.each()

    def health(self) -> WorkerHealth:
        """Return how it is."""
        session, outages = self._session, self._outages
        return WorkerHealth(
            state=self._state,
            worker=self.id,
            alive=session is not None and session.registration.is_alive(),
            since_beat=None if session is None else session.registration.since_beat,
            storage_failing=outages.now,
            storage_failing_for=outages.seconds,
            storage_error=outages.last,
            storage_errors=outages.errors,
            leads=session is not None and session.maintenance.leads,
            running=self._slots.used,
            buffered=0 if session is None else len(session.runner.buffer),
            warnings=self._storage.warnings,
        )

    async def _open(self) -> None:
        if self._url is not None:
            self._opened = True
            await self._storage.open()

    async def _close(self) -> None:
        if self._url is not None:
            await self._storage.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


@contextmanager
def _frozen() -> Generator[None]:
    """Take what is there now out of the collector's sight, unless somebody did so before; undone at the end.

    What a worker's process has imported is most of what each full collection would walk through, for nothing.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
