"""Whether this worker counts as alive: its registration, its heartbeat, and what follows when they fail.

Everything hangs on one moment, `alive_until`: until then nobody takes the worker for lost, whatever happens to its
connections or to the process. It is reckoned from before the last beat that worked, by a clock that goes on while the
machine sleeps. Past it nothing is started, and what runs is stopped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from uuid import UUID

from msgspec.structs import replace

from jobq_core.errors import JobQueueError
from jobq_core.ids import new_id
from jobq_core.records import WorkerInfo, WorkerStats
from jobq_core.storage import QueueStorage
from jobq_worker.heartbeat import HeartbeatThread
from jobq_worker.outages import Outages

logger = logging.getLogger("jobq.worker")


def lease_clock() -> float:
    """Return seconds that go on while the machine sleeps, where the system has such a clock."""
    return time.clock_gettime(_CLOCK) if _CLOCK is not None else time.monotonic()


_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class Registration:
    """This worker among the registered ones.

    on_alive: called when the worker is registered, or surely alive again. on_expired: called when no beat worked for so
    long that the leases are about to run out. on_lost: called when others took this worker for lost; it is then
    registered anew, under a new id. on_returned: called when that is done.
    """

    def __init__(
        self,
        storage: QueueStorage,
        info: WorkerInfo,
        outages: Outages,
        stats: Callable[[], WorkerStats],
        *,
        heartbeat_interval: float,
        clock: Callable[[], float] = lease_clock,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._storage = storage
        self._outages = outages
        self._stats = stats
        self._interval = heartbeat_interval
        self._clock = clock
        self._heartbeat: HeartbeatThread | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._returning: asyncio.Task[None] | None = None
        self._doubted = False
        self._ending = False
        self.info = info
        self.alive_until = float("-inf")
        self.last_beat: float | None = None
        self.on_alive: Callable[[], None] = lambda: None
        self.on_expired: Callable[[], None] = lambda: None
        self.on_lost: Callable[[], None] = lambda: None
        self.on_returned: Callable[[], None] = lambda: None

    @property
    def id(self) -> UUID:
        """The id of this registration."""
        return self.info.id

    @property
    def since_beat(self) -> float | None:
        """Seconds since the last beat that worked was begun; None before the first registration."""
        return None if self.last_beat is None else self._clock() - self.last_beat

    def is_alive(self) -> bool:
        """Say whether the leases are surely this worker's at this moment."""
        return self._clock() < self.alive_until

    @property
    def may_claim(self) -> bool:
        """Whether to ask for jobs: not while the storage has said that this worker counts as lost."""
        return not self._doubted and self.is_alive()

    async def join(self) -> None:
        """Register and start beating. Raises StorageError."""
        before = self._clock()
        await self._storage.register(self.info)
        self._heartbeat = HeartbeatThread(
            self._storage.heartbeat(self.info),
            self._stats,
            self._clock,
            interval=self._interval,
            retry=min(self._interval, max(self.info.lost_after / 20, 0.05)),
            beaten=self._beaten,
            missed=self._missed,
        )
        self._heartbeat.start()
        self._renewed(before)

    def expire(self) -> bool:
        """Stop the runs now if the leases may have run out and nobody has noticed: the event loop was blocked, or the
        process paused, and the alarm is yet to come. Returns whether that was so."""
        if self._alarm is None or self.is_alive():
            return False
        self._expired()
        return True

    def verify(self) -> None:
        """Take in that the storage counts this worker as lost: ask by a beat, and claim nothing until its answer."""
        self._doubted = True
        if self._heartbeat is not None:
            self._heartbeat.beat_now()

    async def leave(self, patience: float) -> None:
        """Stop beating and deregister; after `patience` seconds leave that to those who look for the lost."""
        self._ending = True
        self._silence()
        if self._returning is not None:
            self._returning.cancel()
            await asyncio.wait([self._returning])
        if self._heartbeat is not None:
            await self._heartbeat.stop(min(patience, 1.0))
            self._heartbeat = None
        self.alive_until = float("-inf")
        try:
            async with asyncio.timeout(patience):
                await self._storage.deregister(self.id)
        except (JobQueueError, TimeoutError) as error:
            logger.warning("worker %s could not deregister and will be taken for lost: %s", self.id, error)

    def _renewed(self, before: float) -> None:
        again = not self.may_claim
        self._doubted = False
        self.last_beat = before
        lost_after = self.info.lost_after
        self.alive_until = before + lost_after * 0.9
        self._set_alarm()
        if again:
            self.on_alive()

    def _beaten(self, heartbeat: HeartbeatThread, before: float, alive: bool) -> None:
        self._outages.record_success("heartbeat")
        if heartbeat is not self._heartbeat or self._ending:
            return
        if alive:
            self._renewed(before)
            return
        logger.error("worker %s was taken for lost; its runs are stopped and it starts anew", self.id)
        self.alive_until = float("-inf")
        self._heartbeat = None
        self._silence()
        # At once, so that the answer to a claim under the old id is known for what it is.
        self.info = replace(self.info, id=new_id())
        self.on_lost()
        self._returning = self._loop.create_task(self._return())

    def _missed(self, heartbeat: HeartbeatThread, error: BaseException) -> None:
        self._outages.record_failure("heartbeat", error)

    async def _return(self) -> None:
        while True:
            try:
                await self.join()
            except Exception as error:  # noqa: BLE001  (logged by Outages; the worker never gives up)
                await asyncio.sleep(self._outages.record_failure("registration", error))
            else:
                self._outages.record_success("registration")
                self.on_returned()
                return

    def _set_alarm(self) -> None:
        self._silence()
        self._alarm = self._loop.call_later(max(self.alive_until - self._clock(), 0.0), self._look)

    def _silence(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _look(self) -> None:
        if self.is_alive():
            self._set_alarm()
        else:
            self._expired()

    def _expired(self) -> None:
        self._silence()
        logger.error("worker %s could not renew its leases in time; its runs are stopped", self.id)
        self.on_expired()
