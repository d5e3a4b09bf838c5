"""`Web`: what all requests to one application share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from jobq_core.owned_storage import OwnedStorage
from jobq_core.registry import Registry
from jobq_core.storage import QueueStorage
from jobq_server.web.bulk import BulkWork
from jobq_server.web.looks import Looks
from jobq_server.web.metric_sources import MetricSources
from jobq_server.web.security.attempts import Attempts
from jobq_server.web.security.credentials import Credentials
from jobq_server.web.security.payloads import Payloads
from jobq_server.web.security.sessions import Sessions
from jobq_server.web.streams import Streams

if TYPE_CHECKING:
    from jobq_server.server import JobQueueServer


class Web:
    """The storage, who may log in, what is hidden, and the open streams.

    credentials, sessions: None for an application without a login of its own. server: the pool beside it, if there is
    one.
    """

    def __init__(
        self,
        *,
        owned: OwnedStorage,
        registry: Registry,
        credentials: Credentials | None,
        payloads: Payloads,
        streams: Streams,
        title: str,
        server: JobQueueServer | None,
    ) -> None:
        self._owned = owned
        self._opening = asyncio.Lock()
        self._opened = False
        self.registry = registry
        self.credentials = credentials
        self.sessions = None if credentials is None else Sessions(credentials)
        self.attempts = Attempts()
        self.bulk = BulkWork()
        self.looks = Looks()
        self.payloads = payloads
        self.streams = streams
        self.title = title
        self.server = server
        self._metrics: MetricSources | None = None

    @property
    def storage(self) -> QueueStorage:
        """The storage."""
        return self._owned.storage

    def metrics(self) -> MetricSources:
        """Return what the metrics are read from."""
        if self._metrics is None:
            self._metrics = MetricSources(self.storage, self.server)
        return self._metrics

    async def open(self) -> None:
        """Open a storage that was given by URL, once. A mounted application does not see the start of its server."""
        if not self._opened:
            async with self._opening:
                await self._owned.open()
                self._opened = True

    async def close(self) -> None:
        """End the streams and the work on operations, and close a storage that was given by URL."""
        self.streams.close()
        await self.bulk.close()
        self._opened = False
        await self._owned.close()
