"""The doorbell: NOTIFY on one channel, for ears in this process and in others.

Ringing: after the commit that it tells of, as a transaction of its own, since a NOTIFY takes a lock that serialises the
commits of everybody who also rings. Coalesced on both edges: the first ring goes out at once, the next ones together
2 ms later, and in a flood 5 ms apart, since each wakes every listening process. A first ring may ride behind the
transaction that it tells of, on the same connection: the server comes to it when that is committed, without asking us;
a later one too, if it is due anyway, which spares the connection and the turns of the event loop of a ring by itself.
Ears of this storage object hear at once, without the database.

Listening: one connection per storage object from the first subscription on, probed so that a dead one is noticed, and
replaced; whoever listened is then woken, as rings may have been missed. A pooler that passes no notifications leaves us
to polling, which is the truth in any case.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

import msgspec
import psycopg
from psycopg.sql import Identifier

from jobq_core.errors import ClosedError, StorageError
from jobq_core.storage import Subscription
from jobq_storage_postgres.binary import Params, pack_text, texts
from jobq_storage_postgres.connection import Link
from jobq_storage_postgres.database import Database
from jobq_storage_postgres.protocol import Statement, Step
from jobq_storage_postgres.sql import Statements

_log = logging.getLogger("jobq.postgres")

_GAP: Final = 0.002
"""Seconds between two rings to other processes at least."""
_STEADY_GAP: Final = 0.005
"""Seconds between two rings on average, while they go on and on."""
_BURST: Final = 0.5
"""Seconds' worth of steady rings that may go out faster than that."""
_EARLY: Final = 0.001
"""Seconds before the next ring is due that it may ride already; the one after it is due no sooner for that."""
_PROBE: Final = 20.0
"""Seconds after which the listening connection is asked whether it lives, again and again."""
_PAYLOAD: Final = 7000
"""Bytes of one notification; PostgreSQL takes less than 8000."""
_LONGEST_BACKOFF: Final = 5.0
"""Seconds until the next try to listen again, at most: how much later than the server jobs are picked up at once."""

_PROBING = Statement("probe", "SELECT 1")
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[str])


def channel_of(schema: str) -> str:
    """Return the name of the channel of a schema."""
    return f"jobq_{schema}"


def payloads(origin: str, topics: Iterable[str]) -> list[str]:
    """Write topics as notifications that are not too long. origin: who rings, and has told its own ears already."""
    made: list[str] = []
    batch: list[str] = [origin]
    size = 0
    for topic in topics:
        length = len(_encoder.encode(topic)) + 1
        if size + length > _PAYLOAD and len(batch) > 1:
            made.append(_encoder.encode(batch).decode())
            batch, size = [origin], 0
        batch.append(topic)
        size += length
    made.append(_encoder.encode(batch).decode())
    return made


class Ear(Subscription):
    """One subscription."""

    def __init__(self, topics: Iterable[str], doorbell: Doorbell) -> None:
        self.topics = frozenset(topics)
        self._doorbell = doorbell
        self._rung: set[str] = set()
        self._awake = asyncio.Event()
        self._shut = False

    async def __aenter__(self) -> Self:
        await self._doorbell.enter(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._doorbell.leave(self)

    async def wait(self, timeout: float | None = None) -> frozenset[str]:
        """See `Subscription.wait`."""
        try:
            async with asyncio.timeout(timeout):
                while not (rung := self._take()):
                    self._awake.clear()
                    await self._awake.wait()
                return rung
        except TimeoutError:
            return self._take()

    def hear(self, topics: Iterable[str]) -> None:
        """Note rings and wake the waiter."""
        self._rung.update(topics)
        self._awake.set()

    def shut(self) -> None:
        """End the waiting with ClosedError."""
        self._shut = True
        self._awake.set()

    def _take(self) -> frozenset[str]:
        if self._shut:
            raise ClosedError("the storage was closed while its doorbell was listened to")
        rung = frozenset(self._rung)
        self._rung.clear()
        return rung


class Doorbell:
    """Ears, and the two connections that join them with other processes'."""

    def __init__(
        self, database: Database, statements: Statements, schema: str, conninfo: Mapping[str, Any], time_limit: float
    ) -> None:
        self._database = database
        self._notify = statements["notify"]
        self._notify_within = statements["notify_within"]
        self._channel = channel_of(schema)
        self._conninfo = conninfo
        self._time_limit = time_limit
        self._origin = uuid4().hex
        self._ears: dict[str, set[Ear]] = {}
        self._pending: set[str] = set()
        self._ringing: asyncio.Task[None] | None = None
        self._sending = False
        self._next_ring = 0.0
        self._spent = 0.0
        self._carrier: Link | None = None
        self._listening: asyncio.Task[None] | None = None
        self._attempted = asyncio.Event()
        self._closing = False

    # Ringing

    def ring(self, topics: Iterable[str]) -> None:
        """Tell everybody who listens to one of the topics; the change they tell of is committed."""
        topics = set(topics)
        if not topics:
            return
        self.tell(topics)
        if self._closing:
            return
        self._pending |= topics
        if self._ringing is None or self._ringing.done():
            self._ringing = asyncio.create_task(self._ring_out(), name="jobq doorbell")

    def ride(self, topics: Iterable[str]) -> Ride:
        """Return a ring for a transaction that is about to be sent."""
        return Ride(self, frozenset(topics))

    def board(self, topics: frozenset[str], along: set[str], link: Link) -> Step | None:
        """Return what rings behind a transaction on this link; None if a ring is under way, or was just now.

        along: takes in what else it rings for, which is committed already and was to be rung for soon.
        """
        if self._closing or self._sending or self._busy_for() > _EARLY:
            return None
        if link.prepared is None or self._notify.key not in link.prepared:
            return None
        along |= self._pending
        self._pending.clear()
        self._note_ring(link)
        return self._step(self._origin, topics | along)

    def _note_ring(self, carrier: Link | None = None) -> None:
        self._carrier = carrier
        now = asyncio.get_running_loop().time()
        # When all rings so far would be paid for at the steady pace (a leaky bucket in one number).
        self._spent = max(self._spent, now) + _STEADY_GAP
        self._next_ring = max(max(self._next_ring, now) + _GAP, self._spent - _BURST)

    def _busy_for(self) -> float:
        """Return the seconds until another ring is due; however long one takes, there is no second one under way, since
        each holds a connection."""
        if self._carrier is not None and self._carrier.engaged:
            return _GAP
        return self._next_ring - asyncio.get_running_loop().time()

    def step(self, topics: Iterable[str]) -> Step:
        """Return what rings within somebody's own transaction."""
        return self._notify_within, self._params("", topics)

    def _step(self, origin: str, topics: Iterable[str]) -> Step:
        return self._notify, self._params(origin, topics)

    def _params(self, origin: str, topics: Iterable[str]) -> Params:
        return pack_text(self._channel), texts(payloads(origin, topics))

    def tell(self, topics: Iterable[str]) -> None:
        """Tell the ears of this storage object."""
        for topic in topics:
            for ear in self._ears.get(topic, ()):
                ear.hear((topic,))

    async def _ring_out(self) -> None:
        while self._pending:
            if (wait := self._busy_for()) > 0 and not self._closing:
                await asyncio.sleep(wait)
                continue
            topics, self._pending = self._pending, set()
            self._note_ring()
            self._sending = True
            try:
                await self._database.fetch(*self._step(self._origin, sorted(topics)))
            except (StorageError, ClosedError) as error:
                # Those who did not hear will look by themselves.
                _log.warning("the doorbell did not ring for %s: %s", ", ".join(sorted(topics)), error)
            finally:
                self._sending = False

    # Listening

    async def enter(self, ear: Ear) -> None:
        """Let an ear hear from now on; returns when the listener is connected, or failed to."""
        if self._closing:
            raise ClosedError("the storage is closed")
        for topic in ear.topics:
            self._ears.setdefault(topic, set()).add(ear)
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen(), name="jobq listener")
        try:
            await self._attempted.wait()
        except BaseException:
            self.leave(ear)
            raise

    def leave(self, ear: Ear) -> None:
        """Let an ear hear no more."""
        for topic in ear.topics:
            ears = self._ears.get(topic)
            if ears is not None:
                ears.discard(ear)
                if not ears:
                    del self._ears[topic]

    _failures = 0
    """How often it could not be heard since it last was."""

    async def _listen(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._time_limit):
                    link = await Link.connect(
                        self._conninfo, time_limit=self._time_limit, prepared=None, statements=False
                    )
                try:
                    if link.pooled:
                        _log.warning(
                            "the database is reached through a pooler, which passes no notifications: new jobs are "
                            "found by polling; give listen_dsn, a way to the server itself, to be woken at once"
                        )
                        return
                    await self._hear_out(link)
                finally:
                    link.close()
            except (psycopg.Error, OSError, TimeoutError) as error:
                level = logging.WARNING if self._failures == 0 else logging.DEBUG
                _log.log(level, "the doorbell cannot be heard, polling meanwhile: %s", error)
                self._failures += 1
            finally:
                self._attempted.set()
            # Full jitter: after an outage not everybody comes back at the same moment.
            await asyncio.sleep(random.uniform(0, min(_LONGEST_BACKOFF, 0.2 * 2 ** min(self._failures, 10))))

    async def _hear_out(self, link: Link) -> None:
        """Pass notifications on until the connection fails."""
        quoted = Identifier(self._channel).as_string(None)
        link.listen(self._take_in)
        await link.fetch([(Statement("listen", f"LISTEN {quoted}"), ())])
        if self._attempted.is_set():
            for topic in list(self._ears):
                self.tell((topic,))  # a reconnect: rings may have been missed
        self._failures = 0
        self._attempted.set()
        while True:
            await link.wait_lost(_PROBE)
            await link.fetch([(_PROBING, ())])

    def _take_in(self, payload: bytes) -> None:
        try:
            origin, *topics = _decoder.decode(payload)
        except ValueError as error:
            # Anybody who may connect can notify; what is not ours must not end the listening.
            _log.warning("the doorbell heard what it does not understand: %s", error)
            return
        if origin != self._origin:
            self.tell(topics)

    # Life

    async def close(self) -> None:
        """Send the last rings, stop listening, and end all waiting with ClosedError."""
        self._closing = True
        if self._ringing is not None:
            await self._ringing
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
            self._listening = None
        for ears in list(self._ears.values()):
            for ear in list(ears):
                ear.shut()
        self._ears.clear()


class Ride:
    """A ring that goes out behind the transaction it tells of, if the doorbell is quiet, and else like any other."""

    def __init__(self, doorbell: Doorbell, topics: frozenset[str]) -> None:
        self._doorbell = doorbell
        self._topics = topics
        self._along: set[str] = set()
        self._aboard = False

    def behind(self, link: Link) -> Step | None:
        """Return what is to be sent behind the transaction; asked at each try."""
        self.failed()
        step = self._doorbell.board(self._topics, self._along, link)
        self._aboard = step is not None
        return step

    def arrived(self) -> None:
        """Take in that the transaction is committed."""
        if self._aboard:
            self._doorbell.tell(self._topics)
        else:
            self._doorbell.ring(self._topics)

    def failed(self) -> None:
        """Take in that a try came to nothing: what it was to ring for along with it is still to be rung for."""
        if self._along:
            self._doorbell.ring(self._along)
            self._along.clear()


Ring = Callable[[Iterable[str]], None]
"""How operations ring: `Doorbell.ring`."""
