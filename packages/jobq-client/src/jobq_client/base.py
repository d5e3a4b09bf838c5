"""`ClientBase`: the options of a client, and its start and stop."""

from __future__ import annotations

from jobq_client.middleware import AddMiddleware
from jobq_client.session import Session
from jobq_core.checks import Seconds, check_seconds
from jobq_core.events import EventSource
from jobq_core.job import check_name
from jobq_core.lifecycle import Lifecycle
from jobq_core.owned_storage import OwnedStorage
from jobq_core.storage import QueueStorage


class ClientBase(Lifecycle, EventSource):
    """What the parts of `JobQueueClient` share: its options, and the session between start and stop."""

    _noun = "client"

    def __init__(
        self,
        storage: QueueStorage | str | None,
        queue: str,
        *,
        patience: Seconds = 10.0,
        poll: Seconds = 1.0,
        owned: bool = False,
    ) -> None:
        super().__init__()
        self._owned = OwnedStorage(storage, owned=owned)
        self._queue = check_name(queue, "queue")
        self._patience = check_seconds(patience, "patience")
        self._poll = check_seconds(poll, "poll", least=0.01)
        self._session: Session | None = None
        self._middleware: list[AddMiddleware] = []

    @property
    def queue(self) -> str:
        """The queue of jobs whose kind declares none."""
        return self._queue

    @property
    def storage(self) -> QueueStorage:
        """The storage, for what the client does not offer. Raises ClosedError if the client is not running."""
        if self._session is None:
            raise self._not_running()
        return self._session.storage

    async def _start(self) -> None:
        await self._owned.open()
        session = Session(self._owned.storage, self, patience=self._patience, poll=self._poll)
        try:
            await session.clock_offset.measure()
        except BaseException:
            await self._owned.close()
            raise
        self._session = session

    async def _stop(self) -> None:
        session, self._session = self._session, None
        assert session is not None
        try:
            await session.close()
            self.close_events()
        finally:
            await self._owned.close()

    def _abandon(self) -> None:
        self._session = None

    def _running(self) -> Session:
        """Return the session; raises as `_check_running` does."""
        self._check_running()
        session = self._session
        assert session is not None
        return session

    def _queue_or_own(self, queue: str | None) -> str:
        return self._queue if queue is None else check_name(queue, "queue")
