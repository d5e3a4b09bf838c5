"""The queues that live workers serve, to name a queue that none of them does.

Usual waits cost no query: the workers are read for jobs alone that stay PENDING for some seconds, or until the timeout
of their waiter, and at most once in REREAD_SECONDS.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import time
from typing import Final

from jobq_client.subscribers import Waiter
from jobq_core.clock_offset import ClockOffset
from jobq_core.errors import StorageError
from jobq_core.states import JobState
from jobq_core.storage import JobStatus, QueueStorage

logger = logging.getLogger("jobq.client")

GRACE_SECONDS: Final = 5.0
"""Seconds between two checks of the queues of all jobs that are waited for."""
REREAD_SECONDS: Final = 5.0
"""Seconds for which the workers are not read again."""
READ_TIMEOUT: Final = 1.0
"""Seconds that reading the workers may delay a WaitTimeoutError."""


class ServedQueues:
    """Finds queues that no live worker of the storage serves."""

    def __init__(self, storage: QueueStorage, clock_offset: ClockOffset) -> None:
        self._storage = storage
        self._clock_offset = clock_offset
        self._served: frozenset[str] = frozenset()
        self._read_at = -math.inf
        self._reading = asyncio.Lock()
        self._checked: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiters: dict[Waiter, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, waiter: Waiter) -> None:
        """Check the waiter's queue after some seconds. One timer serves all waiters."""
        self._waiters[waiter] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GRACE_SECONDS, self._check_all)

    def forget(self, waiter: Waiter) -> None:
        """Do not check the waiter any more."""
        self._waiters.pop(waiter, None)

    def _check_all(self) -> None:
        self._timer = None
        for waiter in self._waiters:
            self.check(waiter.last)
        if self._waiters:
            self._timer = asyncio.get_running_loop().call_later(GRACE_SECONDS, self._check_all)

    def check(self, status: JobStatus | None) -> None:
        """Log a warning, from a task of its own, if a job is PENDING in an unserved queue; once per queue."""
        if status is None or status.state is not JobState.PENDING or status.queue in self._checked:
            return
        self._checked.add(status.queue)
        task = asyncio.create_task(self._warn(status), context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _warn(self, status: JobStatus) -> None:
        if problem := await self.problem(status):
            logger.warning("job %s is pending, and %s", status.id, problem)

    async def problem(self, status: JobStatus | None) -> str:
        """Return what keeps a PENDING job from being claimed: that no live worker serves its queue. Else ''.

        Returns '' too if the storage cannot tell within READ_TIMEOUT seconds.
        """
        if status is None or status.state is not JobState.PENDING:
            return ""
        try:
            async with asyncio.timeout(READ_TIMEOUT), self._reading:
                if time.monotonic() >= self._read_at + REREAD_SECONDS:
                    self._served = await self._read()
                    self._read_at = time.monotonic()
        except (StorageError, TimeoutError):
            return ""
        if status.queue in self._served:
            return ""
        return _describe(status.queue, sorted(self._served))

    async def _read(self) -> frozenset[str]:
        records = await self._storage.workers()
        reading = self._clock_offset.read()
        now = reading.now + reading.offset
        return frozenset(
            queue for record in records if record.expires_at.timestamp() > now for queue in record.info.queues
        )

    async def close(self) -> None:
        """End the checks under way."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


def _describe(queue: str, served: list[str]) -> str:
    if not served:
        return "no worker is running on this storage"
    from difflib import get_close_matches  # imported where it is used: few programs need it

    similar = get_close_matches(queue, served, 1)
    return f"no worker serves queue {queue!r}; " + (
        f"did you mean {similar[0]!r}?" if similar else f"the running workers serve {', '.join(served)}"
    )
