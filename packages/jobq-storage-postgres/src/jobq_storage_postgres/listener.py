"""`Listener`: LISTEN on the channel of a schema, over a connection of its own.

There is one connection per storage object, from the first subscription on. It is probed, so that a dead one is noticed,
and replaced; all subscriptions are then notified, as notifications may have been missed. A pooler in transaction mode
passes no notifications on, which leaves polling.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import msgspec
import psycopg
from psycopg.sql import Identifier

from jobq_core.errors import StorageError
from jobq_core.local_notifier import LocalNotifier
from jobq_storage_postgres.connection import Connection
from jobq_storage_postgres.protocol import Statement
from jobq_storage_postgres.session_settings import session_settings
from jobq_storage_postgres.settings import Settings

_log = logging.getLogger("jobq.postgres")

WAIT_SECONDS: Final = 3.0
"""Maximum time that a subscription waits for the listener to connect."""
_ECHO_SECONDS: Final = 1.0
"""Maximum time that a pooled listener waits for a notification of this process."""
PROBE_SECONDS: Final = 20.0
"""Time between two probes of the listening connection."""
LONGEST_BACKOFF_SECONDS: Final = 5.0
"""Maximum time between two tries to connect, so how long after the server the listener may come back."""

_PROBE: Final = Statement("probe", "SELECT 1")
_decoder = msgspec.json.Decoder(list[str])


class Listener:
    """Delivers the notifications of other processes to the subscriptions of this one.

    origin: what this storage object puts into its own notifications, which are ignored here.
    echo: sends such a notification over another connection.
    """

    def __init__(
        self, subscriptions: LocalNotifier, settings: Settings, origin: str, echo: Callable[[], Awaitable[object]]
    ) -> None:
        self._subscriptions = subscriptions
        self._settings = settings
        self._origin = origin
        self._echo = echo
        self._echoed = asyncio.Event()
        self._failures = 0
        self._attempted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.hears = False
        """Whether a connection listens, as far as this process knows."""

    async def wait_attempted(self) -> None:
        """Start listening if necessary, and wait until the listener is connected, or failed to connect.

        Waits for `WAIT_SECONDS` at most. All subscriptions are notified when the listener connects later.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="jobq listener")
        if not self._attempted.is_set():
            # Not asyncio.wait_for, which in Python 3.11 ignores being cancelled just when the event is set.
            with suppress(TimeoutError):
                async with asyncio.timeout(WAIT_SECONDS):
                    await self._attempted.wait()
            self._attempted.set()

    async def stop(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _run(self) -> None:
        limit = self._settings.time_limit
        while True:
            try:
                async with asyncio.timeout(limit):
                    connection = await Connection.connect(
                        self._settings.listen_address, time_limit=limit, prepared=None, statements=False
                    )
                try:
                    if connection.pooled and not await self._receives(connection):
                        _log.warning(
                            "the database is reached through a pooler, which passes no notifications on: new jobs are "
                            "found by polling; to be notified at once, set listen_dsn to an address of the server "
                            "itself, or of a pooler in session mode"
                        )
                        return
                    await self._listen(connection)
                finally:
                    connection.close()
            except (psycopg.Error, StorageError, OSError, TimeoutError) as error:
                level = logging.WARNING if self._failures == 0 else logging.DEBUG
                _log.log(level, "cannot listen for notifications; polling meanwhile: %s", error)
                self._failures += 1
            finally:
                self._attempted.set()
            # Full jitter: after an outage not all processes reconnect at the same moment.
            longest = min(LONGEST_BACKOFF_SECONDS, 0.2 * 2 ** min(self._failures, 10))
            await asyncio.sleep(random.uniform(0, longest))

    async def _receives(self, connection: Connection) -> bool:
        """Return whether a pooled connection is a session of its own, as with a pooler in session mode."""
        self._attempted.set()
        channel = Identifier(self._settings.channel).as_string(None)
        connection.listen(self._deliver)
        await connection.fetch([(Statement("listen", f"LISTEN {channel}"), ())])
        self._echoed.clear()
        await self._echo()
        with suppress(TimeoutError):
            async with asyncio.timeout(_ECHO_SECONDS):
                await self._echoed.wait()
            return True
        # The session that listens belongs to the pooler, which most likely gives the same one again.
        await connection.fetch([(Statement("unlisten", f"UNLISTEN {channel}"), ())])
        return False

    async def _listen(self, connection: Connection) -> None:
        """Deliver notifications until the connection fails."""
        channel = Identifier(self._settings.channel).as_string(None)
        connection.listen(self._deliver)
        listen = Statement("listen", f"LISTEN {channel}")
        await connection.fetch([session_settings(self._settings.time_limit), (listen, ())])
        if self._attempted.is_set():
            self._subscriptions.deliver(self._subscriptions.topics)  # notifications may have been missed
        self._failures = 0
        self.hears = True
        self._attempted.set()
        try:
            while True:
                await connection.wait_lost(PROBE_SECONDS)
                await connection.fetch([(_PROBE, ())])
        finally:
            self.hears = False

    def _deliver(self, payload: bytes) -> None:
        try:
            origin, *topics = _decoder.decode(payload)
        except ValueError as error:
            # Any role that may connect can notify; a foreign payload must not end the listening.
            _log.warning("ignored a notification that jobq did not send: %s", error)
            return
        if origin == self._origin:
            self._echoed.set()
        else:
            self._subscriptions.deliver(topics)
