"""`Notifier`: NOTIFY on one channel, for subscriptions in this process and in others.

A notification is sent after the commit that it announces, in a transaction of its own: NOTIFY takes a lock that
serialises the commits of all transactions that notify. Notifications are coalesced: the first one is sent at once, the
next ones together after 2 ms, and in a flood 5 ms apart, since each one wakes every listening process. One that is due
may ride along with an add: see `riding`. Subscriptions of the same storage object are notified directly, without the
database.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final
from uuid import uuid4

import msgspec

from jobq_core.errors import ClosedError, StorageError
from jobq_core.local_notifier import LocalNotifier, LocalSubscription
from jobq_storage_postgres.binary import Params, pack_text, texts
from jobq_storage_postgres.connection import Connection
from jobq_storage_postgres.database import Database
from jobq_storage_postgres.listener import Listener
from jobq_storage_postgres.protocol import Step
from jobq_storage_postgres.settings import Settings
from jobq_storage_postgres.sql import Statements

_log = logging.getLogger("jobq.postgres")

GAP_SECONDS: Final = 0.002
"""Minimum time between two notifications to other processes."""
STEADY_GAP_SECONDS: Final = 0.005
"""Mean time between two notifications in a flood."""
BURST_SECONDS: Final = 0.5
"""How far a burst may run ahead of the steady pace."""
_PAYLOAD_BYTES: Final = 7000
"""Maximum size of one notification; PostgreSQL takes less than 8000."""

_encoder = msgspec.json.Encoder()


class Notifier(LocalNotifier):
    """The subscriptions of one storage object, and the two connections that link them with other processes."""

    def __init__(self, database: Database, statements: Statements, settings: Settings) -> None:
        super().__init__()
        self._database = database
        self._notify = statements["notify"]
        self._notify_within = statements["notify_within"]
        self._channel = settings.channel
        self._origin = uuid4().hex
        self._pace = Pace()
        self._pending: set[str] = set()
        self._sending: asyncio.Task[None] | None = None
        self._in_flight = False
        self._carrier: Connection | None = None
        self._listener = Listener(self, settings, self._origin, self._echo)
        self._stopping = False

    def notify(self, topics: Iterable[str]) -> None:
        """Notify all subscriptions to these topics; the change that they announce is committed."""
        topics = set(topics)
        if not topics:
            return
        self.deliver(topics)
        if self._stopping:
            return
        self._pending |= topics
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send(), name="jobq notifier")

    def may_send(self, connection: Connection, now: float) -> bool:
        """Return whether a notification may ride on this connection: none is under way, and the next one is due."""
        if self._stopping or self._in_flight or (self._carrier is not None and self._carrier.busy):
            return False
        return self._pace.wait(now) <= 0 and connection.prepared is not None and self._notify.key in connection.prepared

    def take_pending(self, carrier: Connection) -> set[str]:
        """Return the topics that are to be notified, for a notification that rides on this connection now."""
        topics, self._pending = self._pending, set()
        self._carrier = carrier
        self._pace.record(asyncio.get_running_loop().time())
        return topics

    def step(self, topics: Iterable[str]) -> Step:
        """Return the statement that notifies other processes."""
        return self._notify, self._params(self._origin, sorted(topics))

    def step_within(self, topics: Iterable[str]) -> Step:
        """Return the statement that notifies from within a transaction of the caller."""
        return self._notify_within, self._params("", topics)

    def _params(self, origin: str, topics: Iterable[str]) -> Params:
        return pack_text(self._channel), texts(payloads(origin, topics))

    async def _echo(self) -> None:
        await self._database.fetch(*self.step(()))

    async def _send(self) -> None:
        while self._pending:
            wait = self._pace.wait(asyncio.get_running_loop().time())
            if self._carrier is not None and self._carrier.busy:
                wait = GAP_SECONDS  # one at a time: each holds a connection
            if wait > 0 and not self._stopping:
                await asyncio.sleep(wait)
                continue
            topics, self._pending = self._pending, set()
            self._pace.record(asyncio.get_running_loop().time())
            self._carrier, self._in_flight = None, True
            try:
                await self._database.fetch(*self.step(topics))
            except (StorageError, ClosedError) as error:
                _log.warning(
                    "could not notify other processes of %s, which find it by polling: %s",
                    ", ".join(sorted(topics)),
                    error,
                )
            finally:
                self._in_flight = False

    async def enter(self, subscription: LocalSubscription) -> None:
        """Deliver to a subscription from now on; returns when the listener is connected, or failed to connect."""
        if self._stopping:
            raise ClosedError("the storage is closed")
        await super().enter(subscription)
        try:
            await self._listener.wait_attempted()
        except BaseException:
            self.leave(subscription)
            raise

    async def stop(self) -> None:
        """Send the last notifications, stop listening, and end all subscriptions with ClosedError."""
        self._stopping = True
        if self._sending is not None:
            await self._sending
        await self._listener.stop()
        self.close()


class Pace:
    """When the next notification may be sent: a leaky bucket."""

    def __init__(self) -> None:
        self._next = 0.0
        self._paid = 0.0

    def wait(self, now: float) -> float:
        """Return the seconds until the next notification is due; not positive if it is."""
        return self._next - now

    def record(self, now: float) -> None:
        """Count a notification that is sent now."""
        # When all notifications so far would be sent at the steady pace.
        self._paid = max(self._paid, now) + STEADY_GAP_SECONDS
        self._next = max(max(self._next, now) + GAP_SECONDS, self._paid - BURST_SECONDS)


def payloads(origin: str, topics: Iterable[str]) -> list[str]:
    """Encode topics as notifications that are not too long. origin: identifies the sender."""
    encoded: list[str] = []
    batch: list[str] = [origin]
    size = 0
    for topic in topics:
        length = len(_encoder.encode(topic)) + 1
        if size + length > _PAYLOAD_BYTES and len(batch) > 1:
            encoded.append(_encoder.encode(batch).decode())
            batch, size = [origin], 0
        batch.append(topic)
        size += length
    encoded.append(_encoder.encode(batch).decode())
    return encoded
