"""`SyncClientBase`: runs the calls of `SyncJobQueueClient`, whose methods are generated from the async client's."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from jobq_client.base import ClientBase
from jobq_client.callback_thread import in_callback_thread
from jobq_client.client import JobQueueClient
from jobq_client.direct_adds import DirectAdds
from jobq_client.handle import JobHandle
from jobq_client.middleware import AddCall
from jobq_client.process_portal import ProcessPortal, own_portal
from jobq_client.sync_streams import iterate
from jobq_core.adding import AddOptions, new_job
from jobq_core.checks import Seconds
from jobq_core.errors import ClosedError, ConfigurationError
from jobq_core.events import JobAdded
from jobq_core.job import Job
from jobq_core.reprs import short_repr
from jobq_core.storage import QueueStorage

T = TypeVar("T")
A = TypeVar("A")
R = TypeVar("R")


class PortalClient(JobQueueClient):
    """The async client that a sync client drives. It opens and closes its storage, an object too."""

    def __init__(self, storage: QueueStorage | str | None, queue: str, *, patience: Seconds, poll: Seconds) -> None:
        ClientBase.__init__(self, storage, queue, patience=patience, poll=poll, owned=True)

    async def make_direct_adds(self) -> DirectAdds | None:
        """Return what adds jobs from threads, if the storage has it. The client is running."""
        producer = self.storage.sync_producer()
        return None if producer is None else DirectAdds(producer, self._patience)

    def add_from_thread(
        self, portal: ProcessPortal, direct: DirectAdds | None, job: Job[R], options: AddOptions
    ) -> JobHandle[R]:
        """Add a job as `add` does, in the caller's thread if that is possible."""
        if not self._middleware:
            return self._add_from_thread(portal, direct, job, options)
        with AddCall(self._middleware, job, options) as call:
            call.handle = handle = self._add_from_thread(portal, direct, job, options)
        return handle

    def _add_from_thread(
        self, portal: ProcessPortal, direct: DirectAdds | None, job: Job[R], options: AddOptions
    ) -> JobHandle[R]:
        session = self._session
        if direct is None or session is None:
            return portal.run(lambda: self._add(job, None, options))
        new = new_job(session.clock_offset.new_id(), job, self._queue, options)
        if session.clock_offset.is_due:
            portal.post(session.read_clock)
        began = time.monotonic()
        added = direct.add(new) if new.unique_key is None else None
        if added is None:
            spent = time.monotonic() - began
            added = portal.run(lambda: session.add(new, spent=spent))
        if self.wants(JobAdded):
            portal.post(partial(self._emit_added, [new], [added]))
        return self._handle_of(job, new, added)


class SyncClientBase:
    """Start and stop of a sync client, and its calls, which any thread may make.

    A client that runs when its process forks runs in the child too: the first call there starts it with connections of
    its own.
    """

    def __init__(
        self,
        storage: QueueStorage | str | None = None,
        queue: str = "default",
        *,
        patience: Seconds = 10.0,
        poll: Seconds = 1.0,
    ) -> None:
        self._client = PortalClient(storage, queue, patience=patience, poll=poll)
        self._pid = 0
        """The process in which the client was started; 0 while it is stopped."""
        self._direct: dict[int, DirectAdds | None] = {}
        """What adds jobs from threads, by process id: a forked child leaves its parent's alone."""

    @property
    def is_running(self) -> bool:
        """Whether it is started."""
        return self._pid != 0

    def start(self) -> None:
        """Open the storage, and read its clock. Does nothing on a running client.

        Raises StorageUnavailableError or SchemaError as `QueueStorage.open` does; the client is not running then.
        Raises ConfigurationError on a running event loop.
        """
        portal = own_portal()
        portal.run(self._client.start)
        if self._pid != portal.pid:
            # Of threads that start it at once, all use the first one's.
            self._direct.setdefault(portal.pid, portal.run(self._client.make_direct_adds))
            self._pid = portal.pid

    def stop(self) -> None:
        """End all waits with ClosedError, and close the storage.

        An outage is not waited for. Does nothing on a client that is not running. A stopped client can be started
        again. In a forked child it ends nothing of the parent's.
        """
        portal = own_portal()
        portal.check_thread()
        pid, self._pid = self._pid, 0
        if pid:
            direct = self._direct.pop(portal.pid, None)
            if direct is not None:
                direct.close()
            portal.run(self._client.stop)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of the storage's on the client's event loop, and return what it returns.

        client.run(client.storage.workers())
        """
        try:
            portal = self._running()
            portal.check_thread()
        except BaseException:
            call.close()
            raise
        return portal.run(lambda: call)

    def _running(self) -> ProcessPortal:
        """Return the portal, with the client running on it. Raises ClosedError if the client is not running."""
        if not self._pid:
            raise ClosedError("the client is not running: use it inside `with`, or call start() first")
        portal = own_portal()
        if self._pid != portal.pid:
            self.start()  # the parent process of a fork started it
        return portal

    def _run(self, call: Callable[[], Coroutine[Any, Any, T]], connection: object = None) -> T:
        """Run a coroutine on the portal. connection: the caller's, which is used in this thread; None without one."""
        return self._running().run(call, lend_thread=connection is not None)

    def _add(self, job: Job[R], connection: object, options: AddOptions) -> JobHandle[R]:
        if connection is not None:
            return self._run(lambda: self._client.add(job, connection=connection, **options), connection)
        portal = self._running()
        portal.check_thread()
        return self._client.add_from_thread(portal, self._direct.get(portal.pid), job, options)

    def _iterate(self, call: Callable[[], AsyncGenerator[T, None]], ahead: int = 1) -> Generator[T, None, None]:
        # A generator: like its async twin, it does nothing before its first item is asked for.
        yield from iterate(self._running(), call(), ahead)

    def _listen(self, call: Callable[[], T]) -> T:
        """Make a call that adds a listener, of a client that may not run yet."""
        if not self._pid:
            return call()

        async def begin() -> T:
            return call()

        return self._run(begin)

    def _subscribe(self, call: Callable[[], Callable[[], None]]) -> Callable[[], None]:
        """Make a call that returns a function which ends what it began."""
        portal = self._running()

        async def begin() -> Callable[[], None]:
            return call()

        cancel = portal.run(begin)
        return lambda: portal.post(cancel)


def in_thread(callback: Callable[[A], object]) -> Callable[[A], None]:
    """Return a function that has a thread of this process call `callback`. Raises ConfigurationError for an async
    one."""
    if not callable(callback):
        raise ConfigurationError(f"a callback must be a function of one argument, not {short_repr(callback)}")
    if inspect.iscoroutinefunction(callback):
        raise ConfigurationError(
            f"SyncJobQueueClient calls no async callbacks, such as {short_repr(callback)}: pass a plain function, or "
            "use JobQueueClient"
        )
    return in_callback_thread(callback)
