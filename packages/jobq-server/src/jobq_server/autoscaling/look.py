"""`BacklogReader`: how many jobs wait for a server, at a cost that does not grow with the jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import attrs

from jobq_core.states import JobState
from jobq_core.storage import QueueStorage

OTHERS_SECONDS: Final = 10.0
"""Interval between two looks at the other workers and at paused queues."""


@attrs.frozen(kw_only=True)
class Backlog:
    """A server's share of the jobs that wait. jobs: their number. oldest: seconds that the first one has waited."""

    jobs: int
    oldest: float


class BacklogReader:
    """Looks at the PENDING jobs of some queues, without the paused ones.

    The worker processes of a queue take equal shares of its jobs, so that ten servers do not each start workers for all
    of them.
    """

    def __init__(self, storage: Callable[[], QueueStorage], queues: Sequence[str]) -> None:
        self._storage = storage
        self._queues = frozenset(queues)
        self._paused: frozenset[str] = frozenset()
        self._sharers: dict[str, int] = {}
        self._others_at = float("-inf")

    async def look(self, now: float) -> Backlog:
        """Return the backlog. now: seconds of a monotonic clock. Raises StorageError."""
        if now - self._others_at >= OTHERS_SECONDS:
            await self._look_at_others()
            self._others_at = now
        jobs, oldest = 0, 0.0
        for depth in await self._storage().depths():
            if depth.state is JobState.PENDING and depth.queue in self._queues - self._paused:
                # Rounded up: the last job has one taker.
                jobs += -(-depth.jobs // self._sharers.get(depth.queue, 1))
                if depth.oldest is not None:
                    oldest = max(oldest, (depth.at - depth.oldest).total_seconds())
        return Backlog(jobs=jobs, oldest=oldest)

    async def _look_at_others(self) -> None:
        at = await self._storage().now()
        self._paused = frozenset(record.name for record in await self._storage().queues() if record.paused_at)
        alive = [record.info for record in await self._storage().workers() if record.is_alive(at)]
        self._sharers = {queue: max(sum(queue in info.queues for info in alive), 1) for queue in self._queues}
