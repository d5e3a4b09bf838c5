"""`ClockLoop`: measures the offset of the storage's clock, so that the jobs that handlers add get ids of its time."""

from __future__ import annotations

from jobq_core.clock_offset import ClockOffset
from jobq_worker.loops import Loop
from jobq_worker.outages import Outages


class ClockLoop:
    """Keeps an offset measured, while `loop` runs."""

    def __init__(self, clock_offset: ClockOffset, outages: Outages) -> None:
        self._clock_offset = clock_offset
        self._outages = outages
        self.loop = Loop("clock", self._work, outages)

    async def _work(self, woken: bool) -> float:
        if not self._clock_offset.due_in:
            await self._clock_offset.measure()
            self._outages.record_success("clock")
        return self._clock_offset.due_in
