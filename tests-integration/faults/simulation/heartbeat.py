"""The worker's heartbeat thread, simulated: the same beats, run in a lane of the world."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from jobq_worker.liveness.heartbeat import HeartbeatThread

from .channel import SimulatedHeartbeat
from .process import ProcessLoop
from .world import Step


class SimulatedHeartbeatThread(HeartbeatThread):
    """`HeartbeatThread._turn` cut into callbacks at its two waits: for the schedule, and for the answer to a beat."""

    _timer: Step | None = None
    _beating = False
    _woken_early = False

    def start(self) -> None:
        assert isinstance(self._loop, ProcessLoop)
        self._process = self._loop.process
        self._sleep()

    def beat_now(self) -> None:
        self._woken_early = True
        if not self._beating:
            self._sleep()

    async def stop(self, timeout: float) -> None:
        self._ending = True
        self.beat_now()
        await asyncio.wait([self._ended], timeout=timeout)

    def _sleep(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        pause = 0.0 if self._woken_early else self._schedule.pause()
        self._timer = self._process.world.after(pause, self._process.thread, self._woken)

    def _woken(self) -> None:
        self._timer = None
        if self._woken_early:
            self._woken_early = False
            self._schedule.beat_now()
        if self._ending:
            self._over()
            return
        lag = self._watch.tick()
        self._log.take(lag)
        if not self._schedule.is_due(lag):
            self._sleep()
            return
        before = self._clock()
        self._beating = True
        assert isinstance(self._heart, SimulatedHeartbeat)
        self._heart.ask(
            replace(self._stats(), loop_lag=self._watch.take_worst()), lambda alive: self._answered(before, alive)
        )

    def _answered(self, before: float, alive: bool | Exception) -> None:
        self._beating = False
        if isinstance(alive, Exception):
            self._schedule.failed()
            self._tell(self._missed, self, alive)
        else:
            self._schedule.succeeded()
            self._tell(self._beaten, self, before, alive)
            if not alive:
                self._over()
                return
        self._sleep()

    def _over(self) -> None:
        self._heart.close()
        self._tell(self._end)
