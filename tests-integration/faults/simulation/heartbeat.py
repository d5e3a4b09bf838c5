"""The worker's heartbeat thread, simulated: the same beats, run in a lane of the world."""

from __future__ import annotations

import asyncio

from jobq_worker.heartbeat import HeartbeatThread

from .channel import SimulatedHeartbeat
from .process import ProcessLoop
from .world import Step


class SimulatedHeartbeatThread(HeartbeatThread):
    """`HeartbeatThread._beat` cut into callbacks at its two waits: for the interval, and for the answer to a beat."""

    _timer: Step | None = None
    _beating = False
    _again = False

    def start(self) -> None:
        assert isinstance(self._loop, ProcessLoop)
        self._process = self._loop.process
        self._sleep(self._interval)

    def beat_now(self) -> None:
        if self._beating:
            self._again = True
        else:
            self._sleep(0.0)

    async def stop(self, timeout: float) -> None:
        self._ending = True
        if not self._beating:
            self._sleep(0.0)
        await asyncio.wait([self._ended], timeout=timeout)

    def _sleep(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._process.world.after(seconds, self._process.thread, self._woken)

    def _woken(self) -> None:
        self._timer = None
        if self._ending:
            self._over()
            return
        before = self._clock()
        self._beating = True
        assert isinstance(self._heart, SimulatedHeartbeat)
        self._heart.ask(self._stats(), lambda alive: self._answered(before, alive))

    def _answered(self, before: float, alive: bool | Exception) -> None:
        self._beating = False
        if isinstance(alive, Exception):
            self._tell(self._missed, self, alive)
            pause = self._retry
        else:
            self._tell(self._beaten, self, before, alive)
            pause = self._interval
            if not alive:
                self._over()
                return
        self._sleep(0.0 if self._again or self._ending else pause)
        self._again = False

    def _over(self) -> None:
        self._heart.close()
        self._tell(self._end)
