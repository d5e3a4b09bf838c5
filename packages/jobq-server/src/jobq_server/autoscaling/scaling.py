"""`Scaling`: carries out an Autoscaler for a server: looks, decides, changes the number of workers, and logs why."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

import attrs

from jobq_server.autoscaling.decide import BUSY, NOT_WAITING, Cause, Decision, Load, State, decide
from jobq_server.autoscaling.look import Backlog
from jobq_server.autoscaling.options import Autoscaler, ProcessAutoscaler
from jobq_server.autoscaling.process_load import ProcessLoad
from jobq_worker.liveness.processor_share import ProcessorShare
from jobq_worker.running.slots import Slots

logger = logging.getLogger("jobq.worker")


@attrs.frozen(kw_only=True)
class ScalingStats:
    """What an Autoscaler does. workers: their present number, in all processes. processes: their present number; None
    where it is not scaled. cause, reason: of the last decision. changes: how often it changed the number of workers, or
    of processes, since the server was started or made."""

    autoscaler: Autoscaler
    workers: int
    processes: int | None = None
    cause: Cause
    reason: str
    changes: int


class Pool:
    """The workers of a server, as they are scaled. name: of the server. resize: changes their number."""

    def __init__(self, name: str, slots: Slots, resize: Callable[[int], None]) -> None:
        self.name = name
        self.resize = resize
        self._slots = slots

    @property
    def workers(self) -> int:
        """The number of workers."""
        return len(self._slots)

    @property
    def busy(self) -> int:
        """The number of workers that run a job, with those that were removed meanwhile."""
        return self._slots.used - self._slots.hung

    @property
    def ended(self) -> int:
        """The number of jobs that have ended here so far."""
        return self._slots.stats().finished


class Scaling:
    """Scales one pool by one Autoscaler. The storage is asked only while most workers, or the processor, are busy:
    otherwise no job waits for a worker."""

    def __init__(
        self,
        options: Autoscaler,
        pool: Pool,
        look: Callable[[float], Awaitable[Backlog]],
        clock: Callable[[], float] = time.monotonic,
        processor: Callable[[], float] | None = None,
    ) -> None:
        self._options = options
        self._pool = pool
        self._look = look
        self._clock = clock
        self._processor = processor or ProcessorShare().take
        self._changes = 0
        self._last = Decision(cause=Cause.STEADY, reason=NOT_WAITING, state=self._first_state())

    def _first_state(self) -> State:
        return State(workers=self._pool.workers, changed_at=self._clock())

    @property
    def stats(self) -> ScalingStats:
        """What it does."""
        return ScalingStats(
            autoscaler=self._options,
            workers=self._last.workers,
            cause=self._last.cause,
            reason=self._last.reason,
            changes=self._changes,
        )

    def restart(self) -> None:
        """Forget what was seen before a stop; the number of workers stays."""
        self._processor()
        self._last = attrs.evolve(self._last, state=self._first_state())

    async def step(self, _woken: bool = False) -> float:
        """Look, decide and act once; return the seconds until the next step. Raises StorageError."""
        load = Load(at=self._clock(), busy=self._pool.busy)
        if self._options.max_processes is not None:
            load = attrs.evolve(load, ended=self._pool.ended, processor=self._processor())
        try:
            if self._last.state.is_full(load) or load.processor >= BUSY:
                backlog = await self._look(load.at)
                load = attrs.evolve(load, ended=self._pool.ended, waiting=backlog.jobs, oldest=backlog.oldest)
        finally:
            self._report(load)
        self._act(decide(self._options, self._last.state, load))
        return self._options.interval

    def _report(self, load: Load) -> None:
        if isinstance(self._options, ProcessAutoscaler):
            self._options.report(attrs.asdict(ProcessLoad.of(load, self._pool.workers)))

    def _act(self, decision: Decision) -> None:
        before, self._last = self._last, decision
        if decision.workers != before.workers:
            self._changes += 1
            self._pool.resize(decision.workers)
        log_change(self._pool.name, before, decision)


def log_change(name: str, before: Decision, decision: Decision) -> None:
    """Log a decision that changed something, or met the maximum. name: of the server."""
    noun = decision.state.noun
    if decision.workers != before.workers:
        logger.info(
            "server %s scaled from %d to %d %s (%s): %s",
            name,
            before.workers,
            decision.workers,
            noun,
            decision.cause,
            decision.reason,
        )
    elif decision.cause is not before.cause and decision.cause is Cause.AT_MAX:
        logger.warning("server %s cannot add %s: %s", name, noun, decision.reason)
