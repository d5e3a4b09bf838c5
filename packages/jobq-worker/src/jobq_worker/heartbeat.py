"""The heartbeat: a thread that renews the worker's row, whatever the event loop is busy with."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from jobq_core.records import WorkerStats
from jobq_core.storage import Heartbeat

Beaten = Callable[["HeartbeatThread", float, bool], None]
Missed = Callable[["HeartbeatThread", BaseException], None]


class HeartbeatThread:
    """Beats every `interval` seconds, and at once when asked; reports each beat on the event loop.

    beaten: called with the lease clock's time before the beat, and its answer. missed: called with the error of a beat
    that failed; the next one then follows within `retry` seconds.
    """

    def __init__(
        self,
        heartbeat: Heartbeat,
        stats: Callable[[], WorkerStats],
        clock: Callable[[], float],
        *,
        interval: float,
        retry: float,
        beaten: Beaten,
        missed: Missed,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._heart = heartbeat
        self._stats = stats
        self._clock = clock
        self._interval = interval
        self._retry = retry
        self._beaten = beaten
        self._missed = missed
        self._wake = threading.Event()
        self._ending = False
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._beat, name="jobq-heartbeat", daemon=True)

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

    def _beat(self) -> None:
        try:
            self._beat_on()
        finally:
            self._heart.close()
            self._tell(self._end)

    def _beat_on(self) -> None:
        pause = self._interval
        while True:
            self._wake.wait(pause)
            self._wake.clear()
            if self._ending:
                break
            before = self._clock()
            try:
                alive = self._heart.beat(self._stats())
            except Exception as error:  # noqa: BLE001  (reported on the loop, as an outage)
                self._tell(self._missed, self, error)
                pause = self._retry
            else:
                self._tell(self._beaten, self, before, alive)
                pause = self._interval
                if not alive:
                    break

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
