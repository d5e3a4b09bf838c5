"""The facet of notifications: topics, and subscriptions to them."""

from __future__ import annotations

import abc
from collections.abc import Iterable
from types import TracebackType
from typing import Self

FINISHED_TOPIC = "finished"
"""A job completed, failed, was aborted, disabled or deleted: read the status of the jobs you wait for."""
PROGRESS_TOPIC = "progress"
"""A running job reported progress."""
ENDED_TOPIC = "ended"
"""A job with a `follow_up` became FAILED: see `KeeperStorage.resolve`."""
REQUEST_TOPIC = "request"
"""A running job was asked to stop, or was taken from its worker: see `check_leases`."""
WAITING_TOPIC = "waiting"
"""A job that waits for a time was added or put back (see `promote`), one with a deadline was added (see `expire`), or a
worker registered (see `rescue`)."""


def queue_topic(queue: str) -> str:
    """Return the topic that is notified when a job of this queue becomes PENDING, or the queue is no longer paused."""
    return f"queue:{queue}"


def blocked_topic(queue: str) -> str:
    """Return the topic that is notified when a job of this queue becomes BLOCKED as UNKNOWN_KIND or UNFIT_ARGUMENTS: a
    worker that can take such jobs claims with its `kinds`."""
    return f"blocked:{queue}"


class Subscription(abc.ABC):
    """A subscription to topics, from `async with storage.subscribe(topics)`."""

    @abc.abstractmethod
    async def wait(self, timeout: float | None = None) -> frozenset[str]:
        """Wait for a notification, and return all topics that were notified since the last call; an empty set after
        `timeout` seconds (None: no limit).

        Notifications are coalesced. They may be lost (while a listener reconnects) or come without a cause: look at the
        data, and look from time to time without a notification. A notification between two calls is not lost. Raises
        ClosedError when the storage closes.
        """

    @abc.abstractmethod
    async def __aenter__(self) -> Self: ...

    @abc.abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class NotificationStorage(abc.ABC):
    """What wakes the others: subscriptions to topics."""

    @property
    def hears_notifications(self) -> bool:
        """Whether the notifications of other processes arrive here, as far as this process knows.

        False while a listener is not connected, or behind a pooler that passes none on. A worker then looks for what is
        due every second.
        """
        return True

    @abc.abstractmethod
    def subscribe(self, topics: Iterable[str]) -> Subscription:
        """Subscribe to topics: `queue_topic(…)` and the *_TOPIC constants. Enter it with `async with`."""
