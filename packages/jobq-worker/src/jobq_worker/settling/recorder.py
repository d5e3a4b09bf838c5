"""Records how runs ended, once the storage has confirmed it: statistics, events, the log, and what is to be pruned."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from jobq_core.events import (
    EventSource,
    JobAborted,
    JobCompleted,
    JobDisabled,
    JobFailed,
    JobProgressed,
    JobRetried,
    RunEvent,
)
from jobq_core.records import ErrorRecord
from jobq_core.states import Ending, JobState
from jobq_core.storage import Retention, Settlement
from jobq_worker.liveness.registration import Registration
from jobq_worker.maintenance import Maintenance
from jobq_worker.running.run import Run, log_fields
from jobq_worker.running.slots import Slots
from jobq_worker.settling.exchanges import Exchanges, ending_of

logger = logging.getLogger("jobq.worker")

_EVENTS: Mapping[Ending, type[RunEvent]] = {
    Ending.COMPLETE: JobCompleted,
    Ending.FAIL: JobFailed,
    Ending.RETRY: JobRetried,
    Ending.ABORT: JobAborted,
    Ending.DISABLE: JobDisabled,
}


class Recorder:
    """Records each settlement by the state that it led to, and has jobs pruned at once that are not to be kept."""

    def __init__(
        self,
        slots: Slots,
        registration: Registration,
        events: EventSource,
        retention: Mapping[str, Retention],
        maintenance: Maintenance,
        exchanges: Exchanges,
    ) -> None:
        self._slots = slots
        self._registration = registration
        self._events = events
        self._maintenance = maintenance
        self._exchanges = exchanges
        self._not_kept = {(queue, state) for queue, kept in retention.items() for state in _states_not_kept(kept)}

    def record(self, runs: Sequence[Run], states: Sequence[JobState | None]) -> None:
        """Record the states that the settlements of these runs led to; None where the lease was over."""
        wanted = {ending for ending, event in _EVENTS.items() if self._events.wants(event)}
        debug, progressed = logger.isEnabledFor(logging.DEBUG), self._events.wants(JobProgressed)
        quiet = not (wanted or debug or progressed or self._not_kept)
        prune, count = False, self._slots.count
        for run, state in zip(runs, states, strict=True):
            if quiet and state is JobState.COMPLETED:
                count(run.slot, Ending.COMPLETE, run.seconds)  # as below, for most runs
                continue
            settlement = run.settlement
            assert settlement is not None  # runs without one are never sent
            if state is None:
                self._slots.lost += 1
                _log_lost(run, settlement)
                continue
            ending = ending_of(run, state)
            count(run.slot, ending, run.seconds)
            if ending is Ending.FAIL or ending is Ending.RETRY:
                _log_error(run, ending, settlement.error)
            elif debug:
                job = run.job
                logger.debug(
                    "job %s (%s) ended after %.3f s: %s", job.id, job.kind, run.seconds, ending, extra=log_fields(job)
                )
            if progressed and settlement.progress is not None:
                self._events.emit(self._make(run, JobProgressed, progress=settlement.progress))
            if ending in wanted:
                self._events.emit(self._event(run, settlement, ending))
            if self._not_kept and (run.job.queue, state) in self._not_kept:
                prune = True
        if prune:
            self._maintenance.prune_soon()
        if self._exchanges.enabled:
            self._exchanges.count(runs, states)

    def _event(self, run: Run, settlement: Settlement, ending: Ending) -> RunEvent:
        error = settlement.error
        match ending:
            case Ending.COMPLETE:
                result = (run.written or settlement).result
                assert result is not None  # a completion always has one
                return self._make(run, JobCompleted, result_json=result)
            case Ending.FAIL:
                return self._make(run, JobFailed, error=error)
            case Ending.ABORT:
                return self._make(run, JobAborted, error=error)
            case Ending.DISABLE:
                return self._make(run, JobDisabled, error=error)
            case _:
                when = settlement.when
                if isinstance(when, datetime):
                    return self._make(run, JobRetried, error=error, run_at=when)
                return self._make(run, JobRetried, error=error, delay=when or 0.0)

    def _make(self, run: Run, event: Callable[..., RunEvent], **more: object) -> RunEvent:
        job = run.job
        return event(
            job_id=job.id, kind=job.kind, queue=job.queue, attempt=job.attempt, worker=self._registration.id, **more
        )


def _log_lost(run: Run, settlement: Settlement) -> None:
    logger.warning(
        "LeaseLostError: the %s of job %s (%s) was not stored: its lease was over",
        settlement.ending,
        run.job.id,
        run.job.kind,
        extra=log_fields(run.job),
    )


def _log_error(run: Run, ending: Ending, error: ErrorRecord | None) -> None:
    job = run.job
    level, outcome = (logging.ERROR, "failed") if ending is Ending.FAIL else (logging.WARNING, "will run again")
    why = "" if error is None else f": {error.type}: {error.message}"
    if error is not None and error.traceback is not None:
        why += f"\n{error.traceback.rstrip()}"
    logger.log(
        level,
        "job %s (%s) %s after attempt %d of %d%s",
        job.id,
        job.kind,
        outcome,
        job.attempt,
        job.max_attempts,
        why,
        extra=log_fields(job),
    )


def _states_not_kept(retention: Retention) -> list[JobState]:
    kept = {
        JobState.COMPLETED: retention.completed,
        JobState.FAILED: retention.failed,
        JobState.ABORTED: retention.aborted,
    }
    return [state for state, seconds in kept.items() if seconds == 0]
