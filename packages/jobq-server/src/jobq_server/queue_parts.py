"""`QueueParts`: the client and the server of a `JobQueue`, its mode, and their start and stop."""

from __future__ import annotations

from typing import Any, Unpack

import attrs

from jobq_client import JobQueueClient
from jobq_core.checks import Seconds, check_seconds
from jobq_core.errors import ConfigurationError
from jobq_core.events import EventSource
from jobq_core.job import check_name
from jobq_core.lifecycle import Lifecycle
from jobq_core.memory import MemoryQueueStorage
from jobq_core.owned_storage import OwnedStorage
from jobq_core.registry import Jobs
from jobq_core.storage import QueueStorage
from jobq_server.autoscaling.options import Autoscaler, check_autoscale
from jobq_server.modes import QueueMode, no_client, no_server, parse_mode
from jobq_server.server import JobQueueServer
from jobq_worker import PoolOptions, WorkerOptions
from jobq_worker.options import check_options


class QueueParts(Lifecycle, EventSource):
    """A client and a server over one storage. Both exist in every mode; the mode says which of them start."""

    _noun = "queue"

    def __init__(
        self,
        name: str,
        *,
        jobs: Jobs = (),
        storage: QueueStorage | str | None = None,
        mode: QueueMode | str = QueueMode.BOTH,
        worker_count: int = 10,
        autoscale: Autoscaler | None = None,
        **options: Unpack[PoolOptions],
    ) -> None:
        super().__init__()
        self._name = check_name(name, "the name of a queue")
        self._default_mode = parse_mode(mode)
        self._wanted = self._default_mode, self._default_mode.has_server
        self._running_mode: QueueMode | None = None
        self._stop_timeout: float | None = None
        # Checked before anything is opened, in every mode.
        if (scaled := check_autoscale(autoscale)) is not None and scaled.scales_processes:
            raise ConfigurationError(
                "a JobQueue is one process; use a JobQueueServer for an Autoscaler with max_processes"
            )
        checked = _server_options(self._name, {"jobs": jobs, "worker_count": worker_count, **options})
        self._owned = OwnedStorage(MemoryQueueStorage(), owned=True) if storage is None else OwnedStorage(storage)
        self._client = JobQueueClient(self._owned.storage, self._name)
        self._server = JobQueueServer(self._owned.storage, checked, autoscale=autoscale)

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._name

    @property
    def mode(self) -> QueueMode:
        """Which parts it has: of the present start while it runs, else as given at construction."""
        return self._running_mode or self._default_mode

    @property
    def storage(self) -> QueueStorage:
        """The storage of its jobs. A storage that is not the caller's is open while the queue runs."""
        return self._owned.storage

    @property
    def client(self) -> JobQueueClient:
        """The part that adds and watches jobs. Raises QueueModeError in mode SERVER."""
        if not self.mode.has_client:
            raise no_client(self._name)
        return self._client

    @property
    def server(self) -> JobQueueServer:
        """The part that runs jobs. Raises QueueModeError in mode CLIENT."""
        if not self.mode.has_server:
            raise no_server(self._name)
        return self._server

    async def start(self, mode: QueueMode | str | None = None) -> None:
        """Open the storage, unless it is the caller's, and start the parts; does nothing if the queue runs.

        mode: for this start only (default: the mode given at construction, which holds again for the next start).
        Raises as the `start` of the parts does, and ConfigurationError if the queue runs in another mode. After an
        error, nothing is left open.
        """
        if mode is not None:
            wanted = parse_mode(mode)
            await self._start_as(wanted, with_server=wanted.has_server)
            if self.mode is not wanted:
                raise ConfigurationError(
                    f"queue {self._name!r} runs in mode {self.mode.value!r}; stop it before it starts in mode "
                    f"{wanted.value!r}"
                )
        else:
            await self._start_as(self._default_mode, with_server=self._default_mode.has_server)

    async def stop(self, timeout: Seconds | None = None) -> None:
        """Stop the workers as `JobQueueServer.stop` does, then the client; waits under way end with ClosedError.

        The client stops last, because running jobs may still add others. A second call meanwhile shortens the wait.
        Does nothing if the queue does not run. A stopped queue can be started again.
        """
        seconds = None if timeout is None else check_seconds(timeout, "timeout")
        if self._server.health().state == "stopping":
            await self._server.stop(seconds)
        else:
            self._stop_timeout = seconds
        await super().stop()

    async def restart(self, timeout: Seconds | None = None) -> None:
        """Stop as `stop(timeout)` does, and start in the same mode; starts a queue that does not run."""
        mode = self._running_mode
        await self.stop(timeout)
        await self.start(mode)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, as `JobQueueServer.run` does. Raises QueueModeError in mode CLIENT."""
        server = self.server
        await self._start_as(self.mode, with_server=False)  # `server.run` starts it under its signal handlers
        try:
            await server.run()
        finally:
            await self.stop()

    async def _start_as(self, mode: QueueMode, *, with_server: bool) -> None:
        self._wanted = mode, with_server
        await super().start()

    async def _start(self) -> None:
        mode, with_server = self._wanted
        try:
            await self._owned.open()
            if mode.has_client:
                await self._client.start()
            if with_server:
                await self._server.start()
        except BaseException:
            await self._close()
            raise
        self._running_mode = mode

    async def _stop(self) -> None:
        try:
            await self._server.stop(self._stop_timeout)
        finally:
            await self._close()

    def _abandon(self) -> None:
        self._running_mode = None
        self._client.leave_parent()
        self._server.leave_parent()

    async def _close(self) -> None:
        self._running_mode = None
        try:
            await self._client.stop()
        finally:
            await self._owned.close()
            self.close_events()


def _server_options(queue: str, keywords: dict[str, Any]) -> WorkerOptions:
    checked = check_options(
        "JobQueue",
        keywords,
        renamed={"concurrency": "worker_count"},
        excluded={
            "queues": "it has one queue, of its own name",
            "name": "its name is that of the queue",
            **dict.fromkeys(("burst", "max_jobs", "max_memory"), "use a JobQueueServer"),
        },
    )
    return attrs.evolve(checked, queues=[queue])
