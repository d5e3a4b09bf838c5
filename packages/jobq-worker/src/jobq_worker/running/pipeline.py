"""`Pipeline`: the runs of a session on their way: claimed ─► running ─► finished.

The fetcher puts claimed jobs in and takes finished runs out; the runner starts claimed jobs; the lease monitor stops
runs. They share the pipeline and do not know each other; the one signal `changed` reports each change to them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from jobq_core.storage import ClaimedJob, Settlement
from jobq_worker.claiming.grants import Grants
from jobq_worker.running.job_batches import JobBatch
from jobq_worker.running.run import Handler, Run, Stop, log_fields
from jobq_worker.running.slots import Slots
from jobq_worker.settling.finished import FinishedRuns
from jobq_worker.settling.settlements import released, settlement_of, stopped

logger = logging.getLogger("jobq.worker")

GRACE_SECONDS: Final = 1.0
"""Time that a handler past its time limit has to end before its run is settled without it, in addition to the time
after which its executor kills it."""


class Pipeline:
    """The claimed jobs that wait for a slot, the running ones, and the finished ones whose settlement is due.

    grants: the starts that the limiter granted, if there is one.
    """

    def __init__(self, slots: Slots, grants: Grants | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._slots = slots
        self._grants = grants
        self._listeners: list[Callable[[], None]] = []
        self.claimed: deque[Run] = deque()
        self.running: dict[Run, None] = {}
        """In the order of their starts. A run past its time limit stays until its handler ends. The keys are runs and
        not leases: a restored database may give the lease of a run that goes on here to another run."""
        self.finished = FinishedRuns()
        self.gathering: dict[str, JobBatch] = {}
        """The batches that take more runs, by kind. Their runs are among the running ones."""
        self.unmarked: set[Run] = set()
        """The running ones whose start is not yet marked in the storage: their handlers have not been started."""
        self.limited: set[Run] = set()
        """The running ones whose start is being reported to the limiter: their handlers have not been started."""
        self.awaiting_process: deque[Run] = deque()
        """The running ones that wait for a handler process, in the order in which they get one."""
        self.left: list[Run] = []
        """The ones that went on when the worker stopped: they keep their leases, and nothing is settled."""
        self.exhausted: asyncio.Future[None] = self._loop.create_future()
        """Done when more handlers hang than may."""
        self.draining = False

    def now(self) -> float:
        """Return the event loop's time, by which runs are timed."""
        return self._loop.time()

    # The signal

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever jobs were claimed, a run ended, or a slot became free."""
        self._listeners.append(listener)

    def changed(self) -> None:
        """Tell the listeners, in the order in which they registered."""
        for listener in self._listeners:
            listener()

    # Claimed

    def take(self, jobs: Iterable[ClaimedJob], at: float) -> None:
        """Take claimed jobs in. at: the loop's time before the claim."""
        now = self._loop.time()
        self.claimed.extend([Run(job, now, None if job.deadline_in is None else at + job.deadline_in) for job in jobs])
        if self.draining:
            self.give_back()
        else:
            self.changed()

    def give_back(self, keep: int = 0) -> None:
        """Hand the claimed jobs back that wait for a slot, but the first `keep`; their attempts do not count."""
        waiting = list(self.claimed)[keep:]
        for _ in waiting:
            self.claimed.pop()
        for run in waiting:
            self.settle(run, released(run.job))
        self.changed()

    def settle(self, run: Run, settlement: Settlement | None) -> None:
        """Settle a run that got no slot, or whose handler goes on; call `changed` afterwards."""
        run.over = True
        run.settlement = settlement
        if settlement is not None:
            handler: Handler | None = run.handler  # None for a run that is not decoded yet
            # pyright takes the type of the attribute for that of the variable.
            if handler is not None and handler.add_follow_up is not None:  # pyright: ignore[reportUnnecessaryComparison]
                handler.add_follow_up(run, settlement)
            self.finished.append(run, settlement)

    # Running

    def end(self, run: Run) -> None:
        """Take a run whose handler has ended; `run.outcome` says how."""
        outcome = run.outcome
        self._end(run, None if outcome is None or run.over else settlement_of(run, outcome))

    def _end(self, run: Run, settlement: Settlement | None) -> None:
        slot, running = run.slot, self.running
        assert slot is not None
        unmarked = bool(self.unmarked) and run in self.unmarked
        if unmarked:
            self.unmarked.remove(run)
        run.unlink()
        run.arguments = None
        if run not in running:
            return  # it was abandoned
        del running[run]
        if not run.over:
            if run.started:
                run.seconds = self._loop.time() - run.started
            run.over, run.settlement = True, settlement
            if settlement is not None:
                if run.handler.add_follow_up is not None:
                    run.handler.add_follow_up(run, settlement)
                self.finished.append(run, settlement)
        self._slots.give_back(slot)
        if self._grants is not None:
            if unmarked:
                self._grants.cancel()
            else:
                self._grants.finish()
        for listener in self._listeners:  # as `changed`, once per job
            listener()

    def end_before_start(self, run: Run, why: Stop) -> None:
        """End a run that has a slot and whose handler was not started."""
        self._count_lost(run, why)
        run.stop = why
        self._end(run, stopped(run, None))

    def limit(self, run: Run, timeout: float | None) -> None:
        """Stop a run at its deadline, and when it has taken `timeout` seconds from now; NaN counts as 0."""
        if run.timer is not None:
            run.timer.cancel()
            run.timer = None
        # A row that was edited by hand may say NaN, for which `max` returns its first argument: a timer at NaN would
        # keep other timers of the loop from their turn.
        ends = float("inf") if timeout is None else self._loop.time() + max(0.0, timeout)
        if run.due is not None and run.due <= ends:
            run.timer = self._loop.call_at(run.due, self.stop, run, Stop.DEADLINE)
        elif timeout is not None:
            run.timer = self._loop.call_at(ends, self.stop, run, Stop.TIMEOUT)

    def begun(self, run: Run) -> None:
        """Take a run whose handler is called now, from an executor that reports this: its timeout counts from here."""
        if run in self.running and run.stop is None:
            run.started = self._loop.time()
            if run.job.timeout is not None:
                self.limit(run, run.job.timeout)

    def stop(self, run: Run, why: Stop) -> None:
        """Ask a run to stop, or take a claimed job out. The first reason stays, except that LOST replaces all."""
        if run.slot is None:
            self.claimed.remove(run)
            self._count_lost(run, why)
            run.stop = why
            self.settle(run, stopped(run, None))
            self.changed()
        elif run in self.unmarked:
            self.end_before_start(run, why)
        else:
            self._stop_running(run, why)

    def _stop_running(self, run: Run, why: Stop) -> None:
        asked = run.stop is not None
        if asked and why is not Stop.LOST:
            return
        self._count_lost(run, why)
        run.stop = why
        if run.timer is not None:
            run.timer.cancel()
            run.timer = None
        if why in (Stop.TIMEOUT, Stop.DEADLINE):
            grace = GRACE_SECONDS + run.handler.executor.kill_seconds
            run.timer = self._loop.call_later(grace, self._settle_without_end, run)
        if not asked and run not in self.limited:
            run.handler.executor.stop(run)

    def _count_lost(self, run: Run, why: Stop) -> None:
        if why is Stop.LOST and run.stop is not Stop.LOST:
            self._slots.lost += 1

    def stop_all(self, why: Stop) -> None:
        """Ask every run to stop. Claimed jobs are forgotten (LOST) or released (any other reason)."""
        for run in list(self.running):
            self.stop(run, why)
        if why is Stop.LOST:
            self._slots.lost += len(self.claimed)
            for run in self.claimed:
                run.over = True  # an answer about its lease that is under way must not act on it
            self.claimed.clear()
        else:
            self.give_back()

    def abandon(self) -> None:
        """Let the running jobs go whose handlers go on, and free their slots. None of them is released."""
        for run in list(self.running):
            if run in self.limited:  # its handler has not been started
                self.settle(run, stopped(run, None))
            elif not run.over and run.stop is not Stop.LOST:
                run.over = True
                self.left.append(run)
            run.unlink()
            assert run.slot is not None
            self._slots.give_back(run.slot)
            if self._grants is not None:
                self._grants.finish()
        self.running.clear()
        self.changed()

    def _settle_without_end(self, run: Run) -> None:
        """Settle a run whose handler goes on although it was asked to stop."""
        if run.timer is not None:
            run.timer.cancel()
            run.timer = None
        slot = run.slot
        if run.over or slot is None or run not in self.running:
            return
        if run.started:
            run.seconds = self._loop.time() - run.started
        logger.warning(
            "job %s (%s) was asked to stop and is still running; its run is settled without it",
            run.job.id,
            run.job.kind,
            extra=log_fields(run.job),
        )
        self.settle(run, stopped(run, None))
        self._slots.hang(slot)
        if self._slots.exhausted and not self.exhausted.done():
            self.exhausted.set_result(None)
            logger.error(
                "%d handlers keep running past their time limit, more than max_hung allows: their slots are lost "
                "until they end; restart the worker",
                self._slots.hung,
            )
        self.changed()

    # Finished

    def leases(self) -> list[int]:
        """Return the leases of all runs here: claimed, running, finished but not settled, and left at a stop."""
        return [run.job.lease for runs in (self.claimed, self.running, self.finished, self.left) for run in runs]
