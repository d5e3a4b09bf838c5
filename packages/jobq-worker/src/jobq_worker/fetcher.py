"""The one loop of a worker that talks to the storage about jobs: what has ended goes out, what is next comes in.

One `settle_and_claim` does both, and while it is under way the runs that end gather for the next. When to make one:

- at once when jobs may be had (a bell rang, or the last claim was filled) and the buffer is down to half;
- at once when the worker has fallen idle with something to settle, or when a batch is full;
- LINGER seconds after the first end that nobody has settled yet;
- every `poll_interval`, for bells that were not heard.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from jobq_core.errors import ClosedError, StorageUnavailableError
from jobq_core.records import ErrorRecord, type_name
from jobq_core.states import Ending
from jobq_core.storage import Claim, QueueStorage, SettleAndClaimResult, Settlement
from jobq_worker.outages import Outages
from jobq_worker.prefetch import LimiterGate, Prefetch
from jobq_worker.registration import Registration
from jobq_worker.run import Run
from jobq_worker.runner import Runner
from jobq_worker.slots import Slots

BATCH: Final = 2000
"""Settlements, and claimed jobs, of one exchange at most: what it costs beside its jobs (0.7 ms on PostgreSQL) is
little of it then."""
LINGER: Final = 0.003
"""Seconds that the end of a run waits for others to be settled with."""
STALE: Final = 0.2
"""Seconds that a claimed job may wait here for a slot before it is handed back."""
REFUSALS: Final = 3
"""How often a settlement may be refused by itself before its job is failed instead."""
RECHECKS: Final = (0.0, 5.0, 30.0, 120.0)
"""Seconds after a failed exchange at which to look for jobs that this worker holds and does not know: a claim may have
been answered to nobody, and its commit may come late; or another database answers now that does not know what ended."""
AGAIN: Final = 120.0
"""Seconds between two looks, those aside, at most: a worker that lives keeps no job from running for much longer than
one that died. How late a commit comes nobody can say, and that another database answers may pass unseen."""


class Fetcher:
    """Exchanges with the storage, for ever: no error ends it. `on_settled` is told what was settled."""

    def __init__(
        self,
        storage: QueueStorage,
        registration: Registration,
        slots: Slots,
        outages: Outages,
        queues: Sequence[str],
        gate: LimiterGate | None,
        poll_interval: float,
        on_settled: Callable[[Sequence[Run], SettleAndClaimResult], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._storage = storage
        self._registration = registration
        self._slots = slots
        self._outages = outages
        self._queues = deque(queues)
        self._gate = gate
        self._poll_interval = poll_interval
        self._on_settled = on_settled
        self._prefetch = Prefetch()
        self._waiter: asyncio.Future[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._flush = False
        self._rung = True
        self._poll_at = 0.0
        self._doubts: list[float] = []
        self._look_interval = min(registration.info.lost_after, AGAIN)
        self._look_again_at = self._loop.time() + self._look_interval
        self._look_not_before = 0.0
        self._limit = BATCH
        self._sent = 0
        self._refusals = 0
        self._replaced: set[Run] = set()
        self._ending = False
        self._hurry = asyncio.Event()
        self.claiming = True
        self.runner: Runner = None  # type: ignore[assignment]  # set before the loop starts: each knows the other

    def ring(self) -> None:
        """Take in that there may be jobs to claim."""
        self._rung = True
        self._wake()

    def ended(self) -> None:
        """Take in that a run has ended, or a slot or the outbox changed; called for every job."""
        runner = self.runner
        if self._gate is not None:
            self._gate.look()
        if self._linger is None and runner.outbox:
            self._linger = self._loop.call_later(LINGER, self._lingered)
        if self._waiter is not None and (
            len(runner.buffer) * 2 <= self._prefetch.size or len(runner.outbox) >= BATCH or not runner.running
        ):
            self._wake()

    def stop_claiming(self) -> None:
        """Claim no more from now on; what is under way still comes in."""
        self.claiming = False
        self._wake()

    def finish(self) -> None:
        """Settle what has ended and find what may have been claimed unheard; then `run` returns."""
        self._ending = True
        self._hurry.set()
        self._look_not_before = 0.0
        if self._doubts:
            self._doubts = [0.0]
        self._wake()

    async def run(self) -> None:
        """SettleAndClaimResult until `finish` is called and all is settled."""
        while not (self._ending and self._settled()):
            pause = self._pause()
            if pause > 0:
                await self._sleep(pause)
                continue
            try:
                await self.settle_and_claim()
            except Exception as error:  # noqa: BLE001  (logged by Outages; this loop never ends by itself)
                await self._rest(self._outages.record_failure("fetcher", error))
                if self._ending and self._doubts:
                    self._doubts = [0.0]

    async def settle_and_claim(self) -> None:
        """Settle what has ended and claim what there is room for, once. Raises what the storage raises."""
        if self._look_at() <= self._loop.time() and self._registration.is_alive():
            await self._adopt()
        runner, loop = self.runner, self._loop
        rung, self._rung, self._flush = self._rung, False, False
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        runs = list(islice(runner.outbox, self._limit))
        self._sent = len(runs)
        claim = await self._claim() if self._limit == BATCH else None
        if claim is None:
            self._rung = self._rung or rung
        if not runs and claim is None:
            self._outages.record_success("fetcher")
            return
        self._poll_at = loop.time() + self._poll_interval * random.uniform(1.0, 1.5)
        before = loop.time()
        worker = self._registration.id
        granted = 0 if claim is None else claim.limit
        try:
            answer = await self._storage.settle_and_claim(
                worker, [run.settlement for run in runs if run.settlement], claim
            )
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, (StorageUnavailableError, ClosedError)):
                self._narrow(error)
            if claim is not None:
                self._rung = True
            self._doubts = [loop.time() + after for after in RECHECKS]
            if self._gate is not None:
                await self._gate.give_back(granted)
            raise
        self._outages.record_success("fetcher")
        self._settle(runs, answer)
        if not answer.alive and worker == self._registration.id:
            self._registration.verify()
        self._rung = self._rung or len(answer.claimed) == granted > 0
        if self._gate is not None:
            await self._gate.give_back(granted - len(answer.claimed))
        if answer.claimed and worker == self._registration.id:
            # Else they were claimed under a registration that is over, and are found by those who look for the lost.
            runner.take(answer.claimed, before)

    def _narrow(self, error: Exception) -> None:
        """Close in on a settlement that the storage refuses, so that it holds up no other; alone, it fails its job.

        Whatever the error's type: a storage that cannot even write a settlement down may say so in its driver's words.
        """
        self._limit = max(self._sent // 2, 1) if self._sent else BATCH
        self._refusals = self._refusals + 1 if self._sent == 1 else 0
        if self._refusals < REFUSALS:
            return
        outbox = self.runner.outbox
        run, self._refusals = outbox[0], 0
        if run in self._replaced:
            outbox.rotate(-1)
            return
        self._replaced.add(run)
        record = ErrorRecord(
            type=type_name(type(error)),
            message=f"the storage refused how this run ended: {error}",
        )
        run.settlement = Settlement(run.job.id, run.job.lease, Ending.FAIL, error=record)

    def _settle(self, runs: list[Run], answer: SettleAndClaimResult) -> None:
        if runs:
            self._limit, self._refusals = BATCH, 0
            self._replaced.difference_update(runs)
            outbox = self.runner.outbox
            for _ in runs:
                outbox.popleft()
            self._on_settled(runs, answer)
            started = [run for run in runs if run.slot is not None]
            if started:
                seconds = sum([run.seconds for run in started])
                size = sum([len(run.job.arguments) for run in started])
                self._prefetch.observe(len(started), seconds, size, len(self._slots))

    async def _claim(self) -> Claim | None:
        wanted = min(self._room(), BATCH)
        if wanted <= 0 or not self._registration.may_claim:
            return None
        if self._gate is not None:
            if self._gate.closed_until > self._loop.time():
                return None
            wanted = await self._gate.ask(wanted, self._loop.time())
            if not wanted:
                return None
        self._queues.rotate(-1)
        return Claim(tuple(self._queues), wanted)

    def _settled(self) -> bool:
        return not self.runner.outbox and not (self._doubts and self._registration.is_alive())

    def _room(self) -> int:
        if not self.claiming:
            return 0
        ahead = self._prefetch.size if self._gate is None and len(self._slots) else 0
        buffered = len(self.runner.buffer)
        if buffered * 2 > ahead:
            # Enough is at hand. Claiming little now, with a settlement that is due, would fill the buffer to the brim:
            # the large claim would then come when it is empty, and its jobs be read while there is nothing to run.
            return 0
        return len(self._slots.free) + ahead - buffered

    def _look_at(self) -> float:
        """Return when to look for jobs that this worker holds and does not know, be all of its slots taken or not."""
        return max(self._look_not_before, min([self._look_again_at, *self._doubts]))

    def _pause(self) -> float:
        """Return the seconds until the next exchange is due; 0 for now."""
        runner, now = self.runner, self._loop.time()
        if self._ending:
            # With nothing to settle all that is left is to look, and that may have failed just now.
            return 0.0 if runner.outbox else max(self._look_not_before - now, 0.0)
        if runner.outbox and (self._flush or not runner.running or len(runner.outbox) >= BATCH):
            return 0.0
        pause = self._poll_interval
        if self._registration.is_alive():
            pause = min(pause, self._look_at() - now)
            if pause <= 0:
                return 0.0
        buffered = len(runner.buffer)
        if buffered:
            waits = runner.buffer[0].taken_at + STALE - now
            if waits <= 0:
                self._prefetch.size = 0
                runner.give_back()
                return 0.0
            pause = min(pause, waits)
        if self._room() > 0 and self._registration.may_claim:
            opens = now if self._gate is None else self._gate.closed_until
            if opens > now:
                return min(pause, opens - now)
            if (self._rung and buffered * 2 <= self._prefetch.size) or now >= self._poll_at:
                return 0.0
            pause = min(pause, max(self._poll_at - now, 0.001))
        return pause

    async def _sleep(self, seconds: float) -> None:
        waiter = self._waiter = self._loop.create_future()
        timer = self._loop.call_later(seconds, self._wake)
        try:
            await waiter
        finally:
            self._waiter = None
            timer.cancel()

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            return
        self._hurry.clear()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _lingered(self) -> None:
        self._linger = None
        self._flush = True
        self._wake()

    async def _adopt(self) -> None:
        """Find the jobs that a claim gave to this worker although its answer never came."""
        before, worker = self._loop.time(), self._registration.id
        try:
            found = await self._storage.recover_claims(worker, self.runner.leases())
        except Exception as error:  # noqa: BLE001  (logged by Outages)
            # Nothing says that an exchange fails too, and what has ended is to be settled.
            self._look_not_before = self._loop.time() + self._outages.record_failure("look", error)
            return
        self._outages.record_success("look")
        while self._doubts and self._doubts[0] <= before:
            del self._doubts[0]
        self._look_again_at = before + self._look_interval
        if found and worker == self._registration.id:
            self.runner.adopt(found, before)
