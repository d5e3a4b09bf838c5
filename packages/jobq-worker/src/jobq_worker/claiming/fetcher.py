"""The one loop of a worker that exchanges jobs with the storage: it settles what has ended and claims what is next.

One `settle_and_claim` does both; runs that end while it is under way are settled by the next.
`seconds_to_exchange` says when the next one is due:

- at once when there may be jobs (a notification came, or the last claim was filled) and the buffer is half empty;
- at once when the worker is idle with something to settle, or when a batch is full;
- LINGER_SECONDS after the first end that is not settled;
- when settlements whose jobs another transaction held are to be sent again;
- every `poll_interval`, in case a notification was missed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from jobq_core.errors import StorageUnavailableError
from jobq_core.storage import Claim, ClaimedJob, QueueStorage, SettleAndClaimResult
from jobq_worker.claiming.grants import Grants
from jobq_worker.claiming.kinds import KnownKinds
from jobq_worker.claiming.lines import Lines
from jobq_worker.claiming.prefetch import Prefetch
from jobq_worker.claiming.unanswered import UnansweredClaims
from jobq_worker.liveness.registration import Registration
from jobq_worker.loops import Loop
from jobq_worker.outages import Outages
from jobq_worker.running.log_keeper import LogKeeper
from jobq_worker.running.pipeline import Pipeline
from jobq_worker.running.run import Run
from jobq_worker.running.slots import Slots
from jobq_worker.settling.batches import BATCH, Batches
from jobq_worker.settling.exchanges import Exchanges
from jobq_worker.settling.recorder import Recorder

LINGER_SECONDS: Final = 0.003
"""Time that the end of a run waits for other ends, to be settled together."""
STALE_SECONDS: Final = 0.2
"""Time that a claimed job may wait for a slot before it is released."""
SURPLUS: Final = 16
"""The number of jobs to claim beyond the room for them, when none of the last ones could be started (of a kind that the
worker does not know, past their deadline): they cost no slot and no grant. Four times as many if it happens again."""


class Situation(Struct, frozen=True, kw_only=True, gc=False):
    """What decides when the next exchange is due: an attribute for each fact. Times are by the event loop's clock.

    finished: runs to settle. lingered: the first of them has waited LINGER_SECONDS. claimed: jobs that wait for a slot,
    the first of them until stale_at. ahead: how many may wait. room: how many jobs could be claimed. opens_at: when the
    limiter may grant starts. may_have_jobs: a notification came, or the last claim was filled. recover_at: when to ask
    for jobs whose claim was not answered. busy_at: when to send settlements again whose jobs another transaction held.
    kinds_at: when to look for BLOCKED jobs of known kinds. stopping: nothing is claimed any more.
    """

    now: float
    stopping: bool = False
    finished: int = 0
    running: bool = False
    lingered: bool = False
    is_alive: bool = True
    may_claim: bool = True
    recover_at: float = float("inf")
    busy_at: float = float("inf")
    kinds_at: float = float("inf")
    claimed: int = 0
    ahead: int = 0
    stale_at: float = float("inf")
    room: int = 0
    opens_at: float = float("-inf")
    may_have_jobs: bool = False
    poll_at: float = float("inf")
    poll_interval: float = 1.0


def seconds_to_exchange(s: Situation) -> float:
    """Return the seconds until the next exchange is due; 0 for now."""
    if s.stopping:
        return 0.0 if s.finished else max(min(s.recover_at, s.busy_at) - s.now, 0.0)
    if s.finished and (s.lingered or not s.running or s.finished >= BATCH):
        return 0.0
    pause = min(s.poll_interval, s.stale_at - s.now, s.busy_at - s.now)
    if s.is_alive:
        pause = min(pause, s.recover_at - s.now)
    if s.room > 0 and s.may_claim:
        if s.opens_at > s.now:
            pause = min(pause, s.opens_at - s.now)
        elif (s.may_have_jobs and s.claimed * 2 <= s.ahead) or s.now >= min(s.poll_at, s.kinds_at):
            return 0.0
        else:
            pause = min(pause, max(min(s.poll_at, s.kinds_at) - s.now, 0.001))
    return max(pause, 0.0)


class Fetcher:
    """Exchanges jobs with the storage until `finish`; no error ends it.

    Attributes: seven are the components that it acts on, three are parts of its own, and the others are its timing.
    """

    def __init__(
        self,
        storage: QueueStorage,
        registration: Registration,
        pipeline: Pipeline,
        slots: Slots,
        outages: Outages,
        recorder: Recorder,
        exchanges: Exchanges,
        queues: Sequence[str],
        kinds: KnownKinds,
        grants: Grants | None,
        logs: LogKeeper | None,
        poll_interval: float,
    ) -> None:
        self._storage = storage
        self._registration = registration
        self._pipeline = pipeline
        self._slots = slots
        self._outages = outages
        self._recorder = recorder
        self._exchanges = exchanges
        self._grants = grants
        self._logs = logs
        self._lines = Lines(queues)
        self._kinds = kinds
        self._prefetch = Prefetch()
        self._unanswered = UnansweredClaims(storage, registration, pipeline, outages)
        self._batches = Batches(pipeline.finished, pipeline.now)
        self._poll_interval = poll_interval
        self._poll_at = 0.0
        self._linger: asyncio.TimerHandle | None = None
        self._lingered = False
        self._surplus = 0
        self._stopping = False
        self.loop = Loop("fetcher", self._work, outages)
        pipeline.on_change(self._look)
        if grants is not None:
            grants.on_change(self.loop.wake)

    @property
    def found_nothing(self) -> bool:
        """Whether no claim is under way, and the last claim of each queue left no job in it."""
        return self.loop.is_waiting and not self._lines.may_have_jobs and not self._unanswered.possible

    def wake(self, queue: str) -> None:
        """Claim soon from this queue: it may have jobs."""
        self._lines.notify(queue)
        self.loop.wake()

    def wake_all(self) -> None:
        """Claim soon: there is more room for jobs than before."""
        self._lines.notify_all()
        self.loop.wake()

    def free_soon(self, queue: str) -> None:
        """Look soon for jobs of this queue that are BLOCKED and that this worker can take."""
        self._kinds.notify((queue,))
        self.wake(queue)

    def finish(self) -> None:
        """Settle what has ended, and find jobs whose claim was not answered; then the loop ends."""
        self._stopping = True
        self._unanswered.end_backoff()
        self._unanswered.recheck_once()
        self.loop.hurry()

    def _look(self) -> None:
        """Note a change of the pipeline; called for every job."""
        pipeline = self._pipeline
        if self._grants is not None:
            self._grants.reopen()
        finished = len(pipeline.finished.due)
        if finished and self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._end_linger)
        if self.loop.is_waiting and (
            len(pipeline.claimed) * 2 <= self._prefetch.size or finished >= BATCH or not pipeline.running
        ):
            self.loop.wake()

    def _end_linger(self) -> None:
        self._linger = None
        self._lingered = True
        self.loop.wake()

    async def _work(self, woken: bool) -> float | None:
        if self._stopping and self._is_settled():
            return None
        self._give_back_stale()
        situation = self._situation()
        pause = seconds_to_exchange(situation)
        if pause > 0:
            return pause
        try:
            await self._exchange(situation.room)
        except Exception:
            if self._stopping:
                self._unanswered.recheck_once()
            raise
        return 0.0

    def _is_settled(self) -> bool:
        return not self._pipeline.finished and not (self._unanswered.possible and self._registration.is_alive())

    def _give_back_stale(self) -> None:
        """Hand claimed jobs back that have waited too long for a slot, and claim none ahead for now."""
        claimed = self._pipeline.claimed
        if claimed and claimed[0].taken_at + STALE_SECONDS <= self._pipeline.now():
            self._prefetch.size = 0
            self._pipeline.give_back()
            self._lingered = True

    def _situation(self) -> Situation:
        pipeline = self._pipeline
        claimed = pipeline.claimed
        return Situation(
            now=pipeline.now(),
            stopping=self._stopping,
            finished=len(pipeline.finished.due),
            running=bool(pipeline.running),
            lingered=self._lingered,
            is_alive=self._registration.is_alive(),
            may_claim=self._registration.may_claim,
            recover_at=self._unanswered.due_at,
            busy_at=self._batches.busy_at,
            kinds_at=self._kinds.due_at,
            claimed=len(claimed),
            ahead=self._prefetch.size,
            stale_at=claimed[0].taken_at + STALE_SECONDS if claimed else float("inf"),
            room=self._room(),
            opens_at=float("-inf") if self._grants is None else self._grants.opens_at,
            may_have_jobs=self._lines.may_have_jobs,
            poll_at=self._poll_at,
            poll_interval=self._poll_interval,
        )

    def _room(self) -> int:
        if self._pipeline.draining or self._pipeline.finished.is_full:
            return 0
        slots, claimed = self._slots, len(self._pipeline.claimed)
        room = self._prefetch.room(len(slots), len(slots.free), claimed, limited=self._grants is not None)
        if self._pipeline.gathering and not claimed:
            room += sum(batch.room for batch in self._pipeline.gathering.values())
        return room

    async def _exchange(self, room: int) -> None:
        """Settle what has ended and claim what there is room for, once. Raises what the storage raises."""
        if self._unanswered.due_at <= self._pipeline.now() and self._registration.is_alive():
            await self._unanswered.recover()
            room = self._room()
        self._end_lingering()
        claim = None if self._batches.is_narrowed else await self._claim(room)
        runs = self._batches.next()
        if claim is None and not runs:
            self._outages.record_success("fetcher")
            return
        if self._logs is not None and runs:
            await self._logs.finish(runs)
        await self._settle_and_claim(runs, claim)

    async def _settle_and_claim(self, runs: list[Run], claim: Claim | None) -> None:
        before, worker = self._pipeline.now(), self._registration.id
        settlements = [run.settlement for run in runs if run.settlement]
        try:
            answer = await self._storage.settle_and_claim(worker, settlements, claim)
        except BaseException as error:
            self._failed(error, claim)
            raise
        self._outages.record_success("fetcher")
        if self._exchanges.enabled:
            self._exchanges.record(self._pipeline.now() - before, len(runs) + len(answer.claimed))
        if runs:
            self._settled(runs, answer)
        filled = claim is not None and self._claimed_from(claim, answer)
        if worker != self._registration.id:
            return  # the jobs were claimed under an old registration, and are rescued with it
        if not answer.alive:
            self._registration.verify()
        if claim is not None:
            self._take(answer.claimed, before, filled)
            await asyncio.sleep(0)  # the handlers begin before the next exchange is prepared

    def _failed(self, error: BaseException, claim: Claim | None) -> None:
        if isinstance(error, Exception):
            self._batches.failed(error)
        self._lingered = True
        if claim is not None:
            self._lines.put_back(claim.queues)
            if claim.kinds:
                self._kinds.notify(claim.queues)
            if isinstance(error, StorageUnavailableError):
                self._prefetch.budget.halve()
        self._unanswered.exchange_failed()
        if self._grants is not None:
            self._grants.give_back()

    def _settled(self, runs: list[Run], answer: SettleAndClaimResult) -> None:
        """Record the runs that were settled, and keep those whose jobs another transaction held."""
        was_full, states = self._pipeline.finished.is_full, answer.settled
        if self._batches.answered(answer.busy):
            self._lingered = True
        if answer.busy:
            busy = frozenset(answer.busy)
            states = [state for index, state in enumerate(states) if index not in busy]
            runs = [run for index, run in enumerate(runs) if index not in busy]
        self._recorder.record(runs, states)
        self._observe(runs)
        if was_full:
            self._pipeline.changed()

    def _claimed_from(self, claim: Claim, answer: SettleAndClaimResult) -> bool:
        """Record the result of a claim, and return whether it ended before the queues were empty."""
        filled = answer.more or max(answer.picked, len(answer.claimed)) >= claim.limit
        # A worker that counts as lost was given nothing, whether or not there are jobs.
        if not answer.alive:
            self._lines.put_back(claim.queues)
            return False
        self._prefetch.budget.answered()
        if answer.freed:
            self._kinds.freed(claim.queues)
            self._lines.put_back(claim.queues)
        if filled:
            self._lines.filled(claim.queues, answer.claimed, answer.paused)
        return filled

    def _take(self, claimed: list[ClaimedJob], at: float, filled: bool) -> None:
        """Put claimed jobs into the pipeline, which starts them; release what the surplus brought and does not start.

        filled: whether there may be more jobs.
        """
        pipeline, running = self._pipeline, len(self._pipeline.running)
        if claimed:
            pipeline.take(claimed, at)
        none_started = len(pipeline.running) == running and not pipeline.claimed
        if self._surplus and len(pipeline.claimed) > self._prefetch.size:
            pipeline.give_back(self._prefetch.size)
        self._surplus = min(max(self._surplus * 4, SURPLUS), BATCH) if filled and none_started else 0
        if self._grants is not None and not filled:
            self._grants.give_back()

    def _end_lingering(self) -> None:
        self._lingered = False
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    def _observe(self, runs: list[Run]) -> None:
        started = [run for run in runs if run.slot is not None]
        if started:
            seconds = sum([run.seconds for run in started])
            size = sum([len(run.job.arguments) for run in started])
            self._prefetch.observe(len(started), seconds, size, len(self._slots))

    async def _claim(self, room: int) -> Claim | None:
        """Return what to claim: what there is room for, if the limiter permits it; None for nothing."""
        wanted = min(room, BATCH) if self._registration.may_claim else 0
        if wanted > 0:
            self._poll()
        if self._grants is not None:
            wanted = await self._grants.ask(wanted if self._lines.may_have_jobs else 0, self._registration.id)
        if wanted <= 0 or not self._lines.may_have_jobs:
            return None
        queues, limit = self._lines.next(), min(wanted + self._surplus, BATCH)
        return Claim.of(*queues, limit=limit, max_bytes=self._prefetch.budget.bytes, kinds=self._kinds.next(queues))

    def _poll(self) -> None:
        """Make all queues candidates if the poll is due, and those that may have BLOCKED jobs for this worker."""
        now = self._pipeline.now()
        if now >= self._poll_at:
            self._poll_at = now + self._poll_interval * random.uniform(1.0, 1.5)
            self._lines.notify_all()
            self._kinds.notify(self._lines.all)
        if now >= self._kinds.due_at:
            self._lines.notify_each(self._kinds.queues)
