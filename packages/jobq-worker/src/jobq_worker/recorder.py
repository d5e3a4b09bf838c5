"""What became of the runs, once the storage has said so: the statistics, the events, and what is not to be kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from jobq_core.events import EventSource, JobAborted, JobCompleted, JobDisabled, JobFailed, JobRetried, RunEvent
from jobq_core.records import ErrorRecord
from jobq_core.states import Ending, JobState
from jobq_core.storage import Retention, SettleAndClaimResult, Settlement
from jobq_worker.registration import Registration
from jobq_worker.run import Run
from jobq_worker.slots import Slots

logger = logging.getLogger("jobq.worker")

_ENDINGS = {
    JobState.COMPLETED: Ending.COMPLETE,
    JobState.FAILED: Ending.FAIL,
    JobState.ABORTED: Ending.ABORT,
    JobState.DISABLED: Ending.DISABLE,
}
_EVENTS: Mapping[Ending, type[RunEvent]] = {
    Ending.COMPLETE: JobCompleted,
    Ending.FAIL: JobFailed,
    Ending.RETRY: JobRetried,
    Ending.ABORT: JobAborted,
    Ending.DISABLE: JobDisabled,
}


class Recorder:
    """Books each settlement by the state it led to. on_unkept: called when a job ended that is not to be kept."""

    def __init__(
        self,
        slots: Slots,
        registration: Registration,
        events: EventSource,
        retention: Mapping[str, Retention],
        on_unkept: Callable[[], None],
    ) -> None:
        self._slots = slots
        self._registration = registration
        self._events = events
        self._on_unkept = on_unkept
        self._unkept = {(queue, state) for queue, kept in retention.items() for state in _kept_for_no_time(kept)}

    def record(self, runs: Sequence[Run], answer: SettleAndClaimResult) -> None:
        """Take in the states that the settlements of these runs led to."""
        wanted = {ending for ending, event in _EVENTS.items() if self._events.wants(event)}
        unkept = False
        for run, state in zip(runs, answer.settled, strict=True):
            settlement = run.settlement
            assert settlement is not None  # runs without one are never sent
            if state is None:
                logger.warning(
                    "LeaseLostError: the %s of job %s (%s) counted for nothing: its lease was over",
                    settlement.ending,
                    run.job.id,
                    run.job.kind,
                )
                continue
            ending = _ENDINGS.get(state, settlement.ending)
            self._slots.count(run, ending)
            if ending is Ending.FAIL or ending is Ending.RETRY:
                _log(run, ending, settlement.error)
            if ending in wanted:
                self._events.emit(self._event(run, settlement, ending))
            if self._unkept and (run.job.queue, state) in self._unkept:
                unkept = True
        if unkept:
            self._on_unkept()

    def _event(self, run: Run, settlement: Settlement, ending: Ending) -> RunEvent:
        error = settlement.error
        match ending:
            case Ending.COMPLETE:
                result = settlement.result
                assert result is not None  # a completion always has one
                return self._about(run, JobCompleted, result_json=result)
            case Ending.FAIL:
                return self._about(run, JobFailed, error=error)
            case Ending.ABORT:
                return self._about(run, JobAborted, error=error)
            case Ending.DISABLE:
                return self._about(run, JobDisabled, error=error)
            case _:
                when = settlement.when
                if isinstance(when, datetime):
                    return self._about(run, JobRetried, error=error, run_at=when)
                return self._about(run, JobRetried, error=error, delay=when or 0.0)

    def _about(self, run: Run, event: Callable[..., RunEvent], **more: object) -> RunEvent:
        job = run.job
        return event(
            job_id=job.id, kind=job.kind, queue=job.queue, attempt=job.attempt, worker=self._registration.id, **more
        )


def _log(run: Run, ending: Ending, error: ErrorRecord | None) -> None:
    job = run.job
    level, what = (logging.ERROR, "failed") if ending is Ending.FAIL else (logging.WARNING, "will run again")
    why = "" if error is None else f": {error.type}: {error.message}"
    logger.log(
        level, "job %s (%s) %s after attempt %d of %d%s", job.id, job.kind, what, job.attempt, job.max_attempts, why
    )


def _kept_for_no_time(retention: Retention) -> list[JobState]:
    kept = {
        JobState.COMPLETED: retention.completed,
        JobState.FAILED: retention.failed,
        JobState.ABORTED: retention.aborted,
    }
    return [state for state, seconds in kept.items() if seconds == 0]
