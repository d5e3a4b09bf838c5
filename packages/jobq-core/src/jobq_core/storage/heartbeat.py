"""`Heartbeat`: how a worker's thread shows the storage that the worker is alive."""

from __future__ import annotations

import abc
from uuid import UUID

from jobq_core.records import WorkerStats
from jobq_core.storage.requests import WorkerRequest


class Heartbeat(abc.ABC):
    """A worker's heartbeat, from `storage.heartbeat(worker)`.

    Its methods are synchronous. They are called from a thread of their own, never from the event loop, and use a
    connection of their own, so that neither a busy loop nor a busy pool stops the heartbeat.
    """

    @abc.abstractmethod
    def beat(self, stats: WorkerStats) -> bool:
        """Renew the worker's row for another `lost_after` seconds, and store its statistics.

        Returns False if the worker is not or no longer registered: it counts as lost, and its jobs belong to others.
        Renews the expired row of a worker that does not count as lost yet. Raises StorageError; a later beat connects
        again.
        """

    def requests(self) -> list[WorkerRequest]:
        """Return the requests to the worker that it has not answered, oldest first, as `worker_requests` does: for a
        worker whose event loop is blocked. Raises StorageError."""
        return []

    def answer(self, id: UUID, answer: str) -> bool:
        """Store the answer to a request, as `answer_request` does. Raises StorageError."""
        return False

    @abc.abstractmethod
    def close(self) -> None:
        """Close the connection. May be called twice."""
