"""`Session`: what a client holds between one start and one stop."""

from __future__ import annotations

import asyncio

from jobq_client.client_events import ClientEvents
from jobq_client.clock_offset import ClockOffset
from jobq_client.group_commit import GroupCommit
from jobq_client.served_queues import ServedQueues
from jobq_client.status_poller import StatusPoller
from jobq_core.events import EventSource
from jobq_core.storage import Added, NewJob, QueueStorage


class Session:
    """The parts of a running client, which share its storage and end together."""

    def __init__(self, storage: QueueStorage, source: EventSource, *, patience: float, poll: float) -> None:
        self.storage = storage
        self.clock_offset = ClockOffset(storage)
        self.events = ClientEvents(source)
        self.poller = StatusPoller(storage, self.events, poll=poll)
        self.served_queues = ServedQueues(storage, self.clock_offset)
        self.closing = asyncio.Event()
        self.plain_adds = GroupCommit(storage.add, patience=patience, closing=self.closing)
        self.unique_adds = GroupCommit(storage.add, patience=patience, closing=self.closing)

    async def add(self, job: NewJob, *, spent: float = 0.0) -> Added:
        """Add a job in a group with others; see `GroupCommit.add`."""
        adds = self.plain_adds if job.unique_key is None else self.unique_adds
        return await adds.add(job, spent=spent)

    async def close(self) -> None:
        """Send the jobs that `add` accepted, and end all waits with ClosedError."""
        self.closing.set()
        await self.poller.close()
        await self.plain_adds.close()
        await self.unique_adds.close()
        await self.served_queues.close()
        await self.clock_offset.close()
