"""`Notifier`: NOTIFY on one channel, for subscriptions in this process and in others.

A notification is sent after the commit that it announces, in a transaction of its own: NOTIFY takes a lock that
serialises the commits of all transactions that notify. It is sent before the call that made the change returns:
behind the change, in the same flush (see `riding`), or at once over an idle connection. The first notification takes
effect at once; those of the next 2 ms, in a flood of the next 5 ms, are one that the server delays (see `coalescing`),
since each one wakes every listening process. Subscriptions of the same storage object are notified directly, without
the database.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from typing import Any, Final
from uuid import uuid4

import msgspec

from jobq_core.errors import ClosedError, StorageError
from jobq_core.local_notifier import LocalNotifier, LocalSubscription
from jobq_storage_postgres.binary import pack_float8, pack_text, texts
from jobq_storage_postgres.coalescing import Coalescer
from jobq_storage_postgres.connection import Connection
from jobq_storage_postgres.database import Database
from jobq_storage_postgres.listener import Listener
from jobq_storage_postgres.protocol import Step
from jobq_storage_postgres.settings import Settings
from jobq_storage_postgres.sql import Statements

_log = logging.getLogger("jobq.postgres")

MAX_UNANSWERED: Final = 5
"""Maximum number of notifications that the server has not answered; each holds a connection. Later ones wait."""
LONGEST_WAIT_SECONDS: Final = 0.02
"""Maximum time that an add waits until its notification can be sent, if others are unanswered."""
LONGEST_ADD_SECONDS: Final = 0.005
"""Maximum duration that an add is expected to take, when it is decided whether a notification rides with it."""
_PAYLOAD_BYTES: Final = 7000
"""Maximum size of one notification; PostgreSQL takes less than 8000."""

_encoder = msgspec.json.Encoder()


class Notifier(LocalNotifier):
    """The subscriptions of one storage object, and what links them with other processes.

    It has 14 attributes; three are its base's.
    """

    def __init__(self, database: Database, statements: Statements, settings: Settings) -> None:
        super().__init__()
        self.last_add_seconds = 0.0
        """How long the last add took."""
        self._database = database
        self._statements = statements
        self._channel = settings.channel
        self._origin = uuid4().hex
        self._coalescer = Coalescer()
        self._unanswered: dict[Connection, frozenset[str]] = {}
        self._pending: set[str] = set()
        self._sending: asyncio.Task[None] | None = None
        self._sent = asyncio.Event()
        self._held_up = False
        self._listener = Listener(self, settings, self._origin, self._echo)
        self._stopping = False

    @property
    def hears(self) -> bool:
        """Whether the notifications of other processes arrive."""
        return self._listener.hears

    def notify(self, topics: Iterable[str]) -> None:
        """Notify all subscriptions to these topics; the change that they announce is committed."""
        topics = frozenset(topics)
        if not topics:
            return
        self.deliver(topics)
        if self._stopping or self._coalescer.covers(topics, time.monotonic()):
            return
        self._pending |= topics
        self._send_pending()

    async def wait_sent(self) -> None:
        """Wait until no notification is pending, for LONGEST_WAIT_SECONDS at most."""
        if not self._pending or self._held_up:
            return
        try:
            async with asyncio.timeout(LONGEST_WAIT_SECONDS):
                while self._pending:
                    self._sent.clear()
                    await self._sent.wait()
        except TimeoutError:
            self._held_up = True  # by another session: no other add waits until a notification is answered

    def board(self, topics: Iterable[str], carrier: Connection) -> Step | None:
        """Return the statement that announces a change which `carrier` is about to commit, to be sent right behind it.

        Returns None if the change is announced already, or the notification has to wait for others.
        """
        takes = min(self.last_add_seconds, LONGEST_ADD_SECONDS)
        if self._stopping or self._coalescer.covers(topics, time.monotonic() + takes) or not self._may_send(spare=0):
            return None
        step = self._next_step(topics, carrier, takes)
        carrier.when_idle(partial(self._answered, carrier))
        return step

    def step_within(self, topics: Iterable[str]) -> Step:
        """Return the statement that notifies from within a transaction of the caller."""
        return self._statements["notify_within"], (pack_text(self._channel), texts(payloads("", tuple(topics))))

    async def _echo(self) -> None:
        await self._database.fetch(*notification(self._statements, self._channel, self._origin, ()))

    def _may_send(self, spare: int) -> bool:
        """Return whether a notification may be sent. spare: minimum number of free connections, if others wait."""
        for connection in tuple(self._unanswered):
            connection.catch_up()  # the event loop may have been blocked since the answer came
        if not self._unanswered:
            return True
        return len(self._unanswered) < MAX_UNANSWERED and self._database.pool.spare > spare

    def _next_step(self, topics: Iterable[str], carrier: Connection, lead: float = 0.0) -> Step:
        """Return the statement for these and all pending topics. lead: seconds until it can take effect."""
        pending, self._pending = self._pending, set()
        delayed = self._database.pool.spare > 0
        sent, delay = self._coalescer.send(pending.union(topics), time.monotonic(), delayed=delayed, lead=lead)
        self._unanswered[carrier] = frozenset(sent)
        return notification(self._statements, self._channel, self._origin, sorted(sent), delay)

    def _send_pending(self) -> None:
        """Send the pending topics over an idle connection, or have a task send them once there is one."""
        if not self._pending or not self._may_send(spare=1):
            return  # sent when one of the others is answered
        connection = self._database.pool.take_idle()
        if connection is not None:
            self._send(connection)
        elif self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_later(), name="jobq notifier")

    async def _send_later(self) -> None:
        try:
            connection = await self._database.pool.acquire()
        except (StorageError, ClosedError) as error:
            topics, self._pending = self._pending, set()
            _warn(topics, error)
        else:
            self._send(connection)
        self._sent.set()

    def _send(self, connection: Connection) -> None:
        """Send the pending topics over this connection, which then returns to the pool."""
        topics = frozenset(self._pending)
        answer = self._database.post(connection, self._next_step((), connection))
        answer.add_done_callback(partial(self._posted, connection, topics))

    def _posted(self, connection: Connection, topics: frozenset[str], answer: asyncio.Future[Any]) -> None:
        del self._unanswered[connection]
        error = None if answer.cancelled() else answer.exception()
        if error is not None:
            # Not repeated: it may be the notification that the server refuses, and polling finds what it announced.
            self._coalescer.lost()
            _warn(topics, error)
        self._database.pool.release(connection)
        self._go_on()

    def _answered(self, carrier: Connection) -> None:
        topics = self._unanswered.pop(carrier)
        if carrier.closed:
            # Changes over other connections may have counted on it.
            self._coalescer.lost()
            self._pending |= topics
        asyncio.get_running_loop().call_soon(self._go_on)  # when the connection is back in the pool

    def _go_on(self) -> None:
        self._held_up = False
        if self._pending and not self._stopping:
            self._send_pending()
        self._sent.set()

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
        self._send_pending()
        self._stopping = True
        if self._sending is not None:
            await self._sending
        await self._listener.stop()
        self.close()


def _warn(topics: Iterable[str], error: BaseException) -> None:
    _log.warning(
        "could not notify other processes of %s, which find it by polling: %s", ", ".join(sorted(topics)), error
    )


def notification(statements: Statements, channel: str, origin: str, topics: Iterable[str], delay: float = 0.0) -> Step:
    """Return the statement that notifies other processes of topics, after `delay` seconds."""
    first, *others = payloads(origin, tuple(topics))
    if delay or others:
        return statements["notify_later"], (pack_text(channel), texts([first, *others]), pack_float8(delay))
    return statements["notify"], (pack_text(channel), pack_text(first))


@lru_cache(maxsize=64)  # most notifications are of the same few topics
def payloads(origin: str, topics: Sequence[str]) -> Sequence[str]:
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
