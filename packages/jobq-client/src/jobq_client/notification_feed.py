"""`NotificationFeed`: one storage subscription, held as long as it is needed and replaced when it breaks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from jobq_client.backoff import OUTAGE, spread
from jobq_core.errors import StorageUnavailableError
from jobq_core.storage import FINISHED_TOPIC, PROGRESS_TOPIC, QueueStorage

logger = logging.getLogger("jobq.client")

STEADY_SECONDS: Final = 10.0
"""Seconds that a subscription must last for its next failure to count as the first."""


class NotificationFeed:
    """Passes notifications on.

    finished: called when jobs may have ended, also unnoticed while there was no subscription. progressed: called when
    the progress of jobs may have changed. poll: maximum seconds between two attempts to subscribe.
    """

    def __init__(
        self, storage: QueueStorage, *, finished: Callable[[], None], progressed: Callable[[], None], poll: float
    ) -> None:
        self._storage = storage
        self._finished = finished
        self._progressed = progressed
        self._poll = poll

    async def run(self) -> None:
        """Listen until it is cancelled. Raises the storage's error, unless the storage is unavailable for a while."""
        failures = 0
        while True:
            began = time.monotonic()
            try:
                await self._listen()
            except StorageUnavailableError as error:
                failures = failures + 1 if time.monotonic() - began < STEADY_SECONDS else 1
                if failures == 1:
                    logger.warning("notifications are unavailable, polling instead: %s", error)
                self._finished()
                await asyncio.sleep(min(OUTAGE.delay(failures), spread(self._poll)))

    async def _listen(self) -> None:
        async with self._storage.subscribe((FINISHED_TOPIC, PROGRESS_TOPIC)) as subscription:
            self._finished()  # changes before the subscription were not notified
            while True:
                topics = await subscription.wait(spread(self._poll))
                if FINISHED_TOPIC in topics:
                    self._finished()
                elif topics:
                    self._progressed()
