"""The heartbeat: a thread that renews the worker's row while the event loop answers it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

from msgspec.structs import replace

from jobq_core.records import WorkerStats
from jobq_core.storage import Heartbeat
from jobq_worker.liveness.loop_watch import TICK_SECONDS, LagLog, LoopWatch
from jobq_worker.liveness.processor_share import ProcessorShare
from jobq_worker.requests.blocked_answers import BlockedAnswers

logger = logging.getLogger("jobq.worker")

Beaten = Callable[["HeartbeatThread", float, bool], None]
Missed = Callable[["HeartbeatThread", BaseException], None]


class BeatSchedule:
    """Says when to beat: every `interval` seconds while the event loop answers.

    A loop that has not answered for `unanswered` seconds gets one more beat, and then none until it answers again: the
    lease runs out `lost_after` seconds after the loop was blocked. A beat that failed is repeated after `retry`
    seconds.
    """

    def __init__(self, clock: Callable[[], float], *, interval: float, retry: float, unanswered: float) -> None:
        self._clock = clock
        self._interval = interval
        self._retry = retry
        self._unanswered = unanswered
        self._due_at = clock() + interval
        self._blocked = False
        self._withholding = False
        self.tick = min(TICK_SECONDS, interval, unanswered / 2)
        """Seconds between two questions to the event loop."""

    def pause(self) -> float:
        """Return the seconds until the event loop is asked again, or a beat may be due."""
        return self.tick if self._withholding else min(self.tick, max(self._due_at - self._clock(), 0.0))

    def beat_now(self) -> None:
        """Make a beat due."""
        self._due_at = self._clock()

    def is_due(self, lag: float) -> bool:
        """Return whether to beat, while the event loop has not answered for `lag` seconds."""
        if self._blocked != (lag >= self._unanswered):
            self._blocked = not self._blocked
            self._withholding = False
            self.beat_now()
        return not self._withholding and self._clock() >= self._due_at

    def succeeded(self) -> None:
        """Record that a beat succeeded."""
        self._due_at = self._clock() + self._interval
        self._withholding = self._blocked

    def failed(self) -> None:
        """Record that a beat failed."""
        self._due_at = self._clock() + self._retry


class HeartbeatThread:
    """Beats as its schedule says, and at once when asked; reports each beat on the event loop.

    beaten: called with the lease clock's time before the beat, and its answer. missed: called with the error of a beat
    that failed. log: takes the lag of the event loop, several times a second.
    """

    def __init__(
        self,
        heartbeat: Heartbeat,
        stats: Callable[[], WorkerStats],
        clock: Callable[[], float],
        *,
        schedule: BeatSchedule,
        watch: LoopWatch,
        log: LagLog,
        answers: BlockedAnswers,
        beaten: Beaten,
        missed: Missed,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._heart = heartbeat
        self._stats = stats
        self._clock = clock
        self._schedule = schedule
        self._watch = watch
        self._log = log
        self._answers = answers
        self._beaten = beaten
        self._missed = missed
        self._processor = ProcessorShare()
        self._wake = threading.Event()
        self._ending = False
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._serve, name="jobq-heartbeat", daemon=True)

    def start(self) -> None:
        """Start the thread; its first beat follows after one interval, since registering counts as a beat."""
        self._thread.start()

    def beat_now(self) -> None:
        """Beat without waiting for the interval."""
        self._wake.set()

    async def stop(self, timeout: float) -> None:
        """End the thread; after `timeout` seconds a thread that hangs in a beat is left to end by itself."""
        self._ending = True
        self._wake.set()
        await asyncio.wait([self._ended], timeout=timeout)

    def _serve(self) -> None:
        try:
            while not self._ending:
                try:
                    self._turn()
                except Exception:
                    logger.exception("the heartbeat failed unexpectedly and continues")
        finally:
            self._heart.close()
            self._tell(self._end)

    def _turn(self) -> None:
        """Wait, look whether the event loop answers, and beat if a beat is due."""
        if self._wake.wait(self._schedule.pause()):
            self._wake.clear()
            self._schedule.beat_now()
        if self._ending:
            return
        lag = self._watch.tick()
        self._log.take(lag)
        self._answers.look(self._heart, lag)
        if self._schedule.is_due(lag):
            self._beat()

    def _beat(self) -> None:
        before = self._clock()
        try:
            alive = self._heart.beat(
                replace(self._stats(), loop_lag=self._watch.take_worst(), processor=self._processor.take())
            )
        except Exception as error:  # noqa: BLE001  (reported on the loop, as an outage)
            self._schedule.failed()
            self._tell(self._missed, self, error)
            return
        self._schedule.succeeded()
        self._ending = self._ending or not alive
        self._tell(self._beaten, self, before, alive)

    def _tell(self, callback: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            # The loop is closed: the worker is gone.
            self._ending = True
            self._wake.set()

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
