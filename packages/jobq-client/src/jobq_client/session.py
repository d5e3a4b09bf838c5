"""`Session`: what a client holds between one start and one stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final

from jobq_client.client_events import ClientEvents
from jobq_client.group_commit import GroupCommit
from jobq_client.served_queues import ServedQueues
from jobq_client.status_poller import StatusPoller
from jobq_core.clock_offset import ClockOffset, Reading
from jobq_core.errors import StorageError
from jobq_core.events import EventSource
from jobq_core.storage import Added, NewJob, QueueStorage

logger = logging.getLogger("jobq.client")

REMEASURE_SECONDS: Final = 5.0
"""Time after which a failed measurement of the clock's offset is repeated."""


class Session:
    """The parts of a running client, which share its storage and end together."""

    def __init__(self, storage: QueueStorage, source: EventSource, *, patience: float, poll: float) -> None:
        self.storage = storage
        self.clock_offset = ClockOffset(storage)
        self._measuring: asyncio.Task[None] | None = None
        self.events = ClientEvents(source)
        self.poller = StatusPoller(storage, self.events, poll=poll)
        self.served_queues = ServedQueues(storage, self.clock_offset)
        self.closing = asyncio.Event()
        self.plain_adds = GroupCommit(storage.add, patience=patience, closing=self.closing)
        self.unique_adds = GroupCommit(storage.add, patience=patience, closing=self.closing)

    def read_clock(self) -> Reading:
        """Return the offset of the storage's clock. If a measurement is due, it is made in the background."""
        reading = self.clock_offset.read()
        if self.clock_offset.is_due and self._measuring is None:
            self._measuring = asyncio.create_task(self._measure_again(), name="jobq clock offset")
        return reading

    async def _measure_again(self) -> None:
        try:
            await self.clock_offset.measure()
        except StorageError as error:
            # Ids stay unique with the previous offset, and the add that follows reports the storage's error.
            logger.warning("could not read the storage clock; keeping the previous offset: %s", error)
            self.clock_offset.postpone(REMEASURE_SECONDS)
        except Exception:
            logger.exception("measuring the storage clock failed; keeping the previous offset")
            self.clock_offset.postpone(REMEASURE_SECONDS)
        self._measuring = None

    def add(self, job: NewJob, *, spent: float = 0.0) -> Coroutine[Any, Any, Added]:
        """Return the coroutine that adds a job in a group with others; see `GroupCommit.add`."""
        adds = self.plain_adds if job.unique_key is None else self.unique_adds
        return adds.add(job, spent=spent)

    async def close(self) -> None:
        """Send the jobs that `add` accepted, and end all waits with ClosedError."""
        self.closing.set()
        await self.poller.close()
        await self.plain_adds.close()
        await self.unique_adds.close()
        await self.served_queues.close()
        if self._measuring is not None:
            self._measuring.cancel()
            await asyncio.wait({self._measuring})
