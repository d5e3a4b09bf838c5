"""`Drained`: what `drain` ran."""

from __future__ import annotations

from uuid import UUID

import attrs

from jobq_core.states import JobState


@attrs.frozen(kw_only=True)
class DrainedRun:
    """One run of one job. Its record has what is stored: `client.get(run.job_id)`.

    attempt: the number of the run, from 1. state: where it led: COMPLETED, FAILED, ABORTED, DISABLED, SCHEDULED (to be
    retried, or snoozed), PENDING (retried at once), or BLOCKED (the worker has no handler for it, or its arguments do
    not fit). error: why the run failed, as it was raised; None if it did not fail.
    """

    job_id: UUID
    kind: str
    queue: str
    attempt: int
    state: JobState
    error: BaseException | None = None


@attrs.frozen
class Drained:
    """What `drain` ran, in order."""

    runs: tuple[DrainedRun, ...] = ()

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def kinds(self) -> list[str]:
        """The kind of each run."""
        return [run.kind for run in self.runs]

    @property
    def completed(self) -> int:
        """The number of jobs that completed."""
        return self._count(JobState.COMPLETED)

    @property
    def failed(self) -> int:
        """The number of jobs that failed for good."""
        return self._count(JobState.FAILED)

    @property
    def aborted(self) -> int:
        """The number of jobs that were aborted while they ran."""
        return self._count(JobState.ABORTED)

    @property
    def retried(self) -> int:
        """The number of failed runs after which the job runs again."""
        return sum(run.error is not None and run.state in (JobState.SCHEDULED, JobState.PENDING) for run in self.runs)

    @property
    def errors(self) -> list[BaseException]:
        """What the failed runs raised."""
        return [run.error for run in self.runs if run.error is not None]

    def raise_first(self) -> None:
        """Raise what the first failed run raised, if one did."""
        for run in self.runs:
            if run.error is not None:
                run.error.add_note(
                    f"raised by job {run.kind} ({run.job_id}), attempt {run.attempt}, now {run.state.name}"
                )
                raise run.error

    def _count(self, state: JobState) -> int:
        return sum(run.state is state for run in self.runs)
