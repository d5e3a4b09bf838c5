"""The leases of runs: marking in the storage that a run starts, and seeing whether a run may go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from jobq_core.states import StopRequest
from jobq_core.storage import QueueStorage
from jobq_worker.outages import Outages
from jobq_worker.registration import Registration
from jobq_worker.run import Run, Stop
from jobq_worker.runner import Runner

logger = logging.getLogger("jobq.worker")

INTERVAL: Final = 1.0
"""Seconds between looks while jobs run, for bells that were not heard."""
YOUNG: Final = 0.5
"""Seconds that a run may be old without being looked at unrung: short jobs cost no look."""

_STOPS = {StopRequest.ABORT: Stop.ABORT, StopRequest.DISABLE: Stop.DISABLE}


class LeaseMonitor:
    """Asks the storage about the leases that this worker holds: when the bell rings, and every second."""

    def __init__(self, storage: QueueStorage, registration: Registration, runner: Runner, outages: Outages) -> None:
        self._loop = asyncio.get_running_loop()
        self._storage = storage
        self._registration = registration
        self._runner = runner
        self._outages = outages
        self._bell = asyncio.Event()

    def ring(self) -> None:
        """Look at all leases at once: somebody was asked to stop."""
        self._bell.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            rung = True
            try:
                async with asyncio.timeout(INTERVAL):
                    await self._bell.wait()
            except TimeoutError:
                rung = False
            self._bell.clear()
            try:
                await self.look(YOUNG if not rung else 0.0)
            except Exception as error:  # noqa: BLE001  (logged by Outages; this loop never ends by itself)
                self._bell.set()
                await asyncio.sleep(self._outages.record_failure("watch", error))

    async def look(self, older_than: float = 0.0) -> None:
        """Ask about the runs, and the buffered jobs, that are older than this many seconds, and act on the answers."""
        before = self._loop.time() - older_than
        runner = self._runner
        runs = [run for run in [*runner.buffer, *runner.running] if run.taken_at <= before and not run.over]
        if not runs:
            self._outages.record_success("watch")
            return
        holds = await self._storage.check_leases(self._registration.id, [(run.job.id, run.job.lease) for run in runs])
        self._outages.record_success("watch")
        for run, hold in zip(runs, holds, strict=True):
            if not hold.held:
                self._stop(run, Stop.LOST)
            elif hold.request is not None:
                self._stop(run, _STOPS[hold.request])

    def _stop(self, run: Run, why: Stop) -> None:
        if run.over or (run.slot is not None and run not in self._runner.running):
            return  # it ended while we asked
        if why is Stop.LOST:
            logger.warning(
                "LeaseLostError: job %s (%s) belongs to this worker no longer; its run is stopped",
                run.job.id,
                run.job.kind,
            )
        if run.slot is None:
            self._runner.drop(run, why)
        else:
            self._runner.stop(run, why)


class StartMarks:
    """Asks the storage for one run after another that is about to start, and passes the answers on.

    on_answer: told of a run and whether its lease stands; not of one that is over by then.
    """

    def __init__(
        self,
        storage: QueueStorage,
        registration: Registration,
        outages: Outages,
        on_answer: Callable[[Run, bool], None],
    ) -> None:
        self._storage = storage
        self._registration = registration
        self._outages = outages
        self._on_answer = on_answer
        self._waiting: list[Run] = []
        self._bell = asyncio.Event()

    def ask(self, run: Run) -> None:
        """Have it noted that this run begins."""
        self._waiting.append(run)
        self._bell.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            while self._waiting:
                try:
                    await self._ask()
                except Exception as error:  # noqa: BLE001  (logged by Outages; this loop never ends by itself)
                    await asyncio.sleep(self._outages.record_failure("mark_started", error))
            self._outages.record_success("mark_started")

    async def _ask(self) -> None:
        runs = [run for run in self._waiting if not run.over]
        self._waiting = []
        if not runs:
            return
        try:
            stands = await self._storage.mark_started(
                self._registration.id, [(run.job.id, run.job.lease) for run in runs]
            )
        except BaseException:
            self._waiting[:0] = runs
            raise
        for run, held in zip(runs, stands, strict=True):
            if not run.over:
                self._on_answer(run, held)
