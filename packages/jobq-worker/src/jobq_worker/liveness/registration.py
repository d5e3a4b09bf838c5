"""The registration of a worker: whether it counts as alive, and what follows when it does not.

All depends on one moment, `alive_until`: until then no other worker takes this one for lost, whatever happens to its
connections or its process. It is counted from before the last successful heartbeat, by a clock that goes on while the
machine sleeps. After it, no job is started and running jobs are stopped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from uuid import UUID

from msgspec.structs import replace

from jobq_core.errors import JobQueueError
from jobq_core.events import EventSource, StatsUpdated, WorkerStarted
from jobq_core.ids import new_id
from jobq_core.machine_clock import machine_clock
from jobq_core.records import WorkerInfo, WorkerStats
from jobq_core.storage import QueueStorage
from jobq_worker.liveness.heartbeat import BeatSchedule, HeartbeatThread
from jobq_worker.liveness.loop_watch import UNANSWERED_SECONDS, LagLog, LoopWatch
from jobq_worker.loops import retry
from jobq_worker.outages import Outages
from jobq_worker.requests.blocked_answers import BlockedAnswers
from jobq_worker.running.pipeline import Pipeline
from jobq_worker.running.run import Stop

logger = logging.getLogger("jobq.worker")


class Registration:
    """Registers the worker, renews the registration by heartbeats, and registers again when it was taken for lost.

    When the leases are about to run out, the runs of the pipeline are stopped and released. When others took this
    worker for lost, they are stopped and not settled; the new registration has a new id.

    Attributes: six are parts that it acts on, four describe the present registration, and six are the heartbeat
    with its timer and its flags.
    """

    def __init__(
        self,
        storage: QueueStorage,
        info: WorkerInfo,
        pipeline: Pipeline,
        outages: Outages,
        events: EventSource,
        stats: Callable[[], WorkerStats],
        describe: Callable[[UUID | None], str],
        drain: Callable[[str], None],
        *,
        heartbeat_interval: float,
        clock: Callable[[], float] = machine_clock,
    ) -> None:
        self._storage = storage
        self._pipeline = pipeline
        self._outages = outages
        self._events = events
        self._stats = stats
        self._describe = describe
        self._drain = drain
        self._interval = heartbeat_interval
        self._clock = clock
        self._heartbeat: HeartbeatThread | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._returning: asyncio.Task[None] | None = None
        self._verifying = False
        self._ending = False
        self.info = info
        self.watch = LoopWatch(clock)
        self.alive_until = float("-inf")
        self.last_beat: float | None = None

    @property
    def id(self) -> UUID:
        """The id of the present registration."""
        return self.info.id

    @property
    def since_beat(self) -> float | None:
        """Seconds since the start of the last successful heartbeat; None before the first registration."""
        return None if self.last_beat is None else self._clock() - self.last_beat

    def is_alive(self) -> bool:
        """Return whether the leases are certain to be this worker's at this moment."""
        return self._clock() < self.alive_until

    @property
    def may_claim(self) -> bool:
        """Whether to ask for jobs: not while the storage has said that this worker counts as lost."""
        return not self._verifying and self.is_alive()

    async def join(self) -> None:
        """Register and start the heartbeat. Raises StorageError."""
        before = self._clock()
        await self._storage.register(self.info)
        lost_after = self.info.lost_after
        unanswered = min(UNANSWERED_SECONDS, lost_after / 4)
        self._heartbeat = HeartbeatThread(
            self._storage.heartbeat(self.info),
            self._stats,
            self._clock,
            schedule=BeatSchedule(
                self._clock,
                interval=self._interval,
                retry=min(self._interval, max(lost_after / 20, 0.05)),
                unanswered=unanswered,
            ),
            watch=self.watch,
            log=LagLog(self.info.name, self.watch, lost_after),
            answers=BlockedAnswers(self._describe, self._drain, self._clock, unanswered=unanswered),
            beaten=self._beaten,
            missed=self._missed,
        )
        self._heartbeat.start()
        self._renew(before)

    def expire(self) -> bool:
        """Stop the runs now if the leases may have run out and the alarm is overdue, since the event loop was
        blocked or the process was paused. Return whether that was so."""
        if self._alarm is None or self.is_alive():
            return False
        self._expired()
        return True

    def verify(self) -> None:
        """Beat at once, since the storage said that this worker counts as lost; claim nothing until the answer."""
        self._verifying = True
        if self._heartbeat is not None:
            self._heartbeat.beat_now()

    async def leave(self, timeout: float, *, deregister: bool = True) -> None:
        """Stop the heartbeat and deregister. The registration is left to run out after `timeout` seconds, or at once
        without `deregister`."""
        self._ending = True
        self._cancel_alarm()
        if self._returning is not None:
            self._returning.cancel()
            await asyncio.wait([self._returning])
        if self._heartbeat is not None:
            await self._heartbeat.stop(min(timeout, 1.0))
            self._heartbeat = None
        self.alive_until = float("-inf")
        if not deregister:
            return
        try:
            async with asyncio.timeout(timeout):
                await self._storage.deregister(self.id)
        except (JobQueueError, TimeoutError) as error:
            logger.warning("worker %s could not deregister and will count as lost: %s", self.id, error)

    def _renew(self, before: float) -> None:
        again = not self.may_claim
        self._verifying = False
        self.last_beat = before
        self.alive_until = before + self.info.lost_after * 0.9
        self._set_alarm()
        if again:
            self._pipeline.changed()

    def _beaten(self, heartbeat: HeartbeatThread, before: float, alive: bool) -> None:
        self._outages.record_success("heartbeat")
        if heartbeat is not self._heartbeat or self._ending:
            return
        if not alive:
            self._lost()
            return
        self._renew(before)
        if self._events.wants(StatsUpdated):
            self._events.emit(StatsUpdated(worker=self.id, name=self.info.name, stats=self._stats()))

    def _missed(self, heartbeat: HeartbeatThread, error: BaseException) -> None:
        self._outages.record_failure("heartbeat", error)

    def _lost(self) -> None:
        logger.error("worker %s counted as lost; its runs are stopped and it registers again", self.id)
        self.alive_until = float("-inf")
        self._heartbeat = None
        self._cancel_alarm()
        # The id changes at once, so that the answer to a claim under the old id is recognized.
        self.info = replace(self.info, id=new_id())
        self._pipeline.stop_all(Stop.LOST)
        self._returning = asyncio.get_running_loop().create_task(self._return())

    async def _return(self) -> None:
        await retry("registration", self.join, self._outages)
        self._events.emit(WorkerStarted(worker=self.id, name=self.info.name))

    def _set_alarm(self) -> None:
        self._cancel_alarm()
        seconds = max(self.alive_until - self._clock(), 0.0)
        self._alarm = asyncio.get_running_loop().call_later(seconds, self._check_alive)

    def _cancel_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _check_alive(self) -> None:
        if self.is_alive():
            self._set_alarm()
        else:
            self._expired()

    def _expired(self) -> None:
        self._cancel_alarm()
        logger.error("worker %s could not renew its leases in time; its runs are stopped", self.id)
        self._pipeline.stop_all(Stop.RELEASE)
