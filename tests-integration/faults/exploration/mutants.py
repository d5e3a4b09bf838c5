"""The model without one rule in each class; the exploration must find a broken promise in each."""

from __future__ import annotations

from .model import BELIEF, Answer, Job, JobState, Model, Phase, Registration, Request, Run, State, Worker


class SettlesWithoutTheLease(Model):
    """A settlement counts whichever worker holds the job."""

    def counts(self, job: Job, run: Run) -> bool:
        return job.state == "processing"


class SettlesAgain(Model):
    """A repeated settlement counts each time."""

    def counts(self, job: Job, run: Run) -> bool:
        return job.lease == run.lease


class RescuesTheLiving(Model):
    """A worker counts as lost while it may still believe in its leases."""

    def is_lost(self, left: int) -> bool:
        return left <= BELIEF


class RevivesTheLost(Model):
    """A beat of a lost worker registers it again."""

    def renews(self, state: State, sender: Registration) -> bool:
        return True


class LetsTheLostClaim(Model):
    """A worker may claim even if it is not registered, and its jobs are not rescued."""

    def may_claim(self, state: State, sender: Registration) -> bool:
        return True

    def rescue(self, state: State) -> State:
        lost = {key for key, left in state.rows if self.is_lost(left)}
        rescued = super().rescue(state)
        jobs = tuple(
            new if old.holder is None or old.holder in lost else old
            for old, new in zip(state.jobs, rescued.jobs, strict=True)
        )
        return rescued._replace(jobs=jobs)


class StartsUnsure(Model):
    """A worker starts claimed jobs even when it is unsure of its leases."""

    def may_start(self, worker: Worker) -> bool:
        return True

    def unsure(self, worker: Worker) -> Worker:
        return worker._replace(sure=1)


class BelievesTheAnswer(Model):
    """A worker counts the time of its leases from the answer to its beat."""

    def belief(self, answer: Answer) -> int:
        return BELIEF + 1


class RecoversOnce(Model):
    """A worker recovers an unanswered claim only once."""

    def keeps_recovering(self, answer: Answer) -> bool:
        return answer.kind != "recover_claims"


class MarksNothing(Model):
    """A worker starts claimed jobs without marking them as started."""

    def needs_mark(self, job: Job) -> bool:
        return False


class CountsJobsThatNeverRan(Model):
    """A rescue counts an attempt for each job of a lost worker."""

    def counts_as_run(self, job: Job) -> bool:
        return True


class CountsNoLostRun(Model):
    """A rescue does not count attempts, so a job that kills its workers runs forever."""

    def counts_as_run(self, job: Job) -> bool:
        return False


class FailsDespiteTheAbort(Model):
    """A run that fails for good leaves its job failed, though it was asked to abort."""

    def state_after(self, phase: Phase, request: Request | None) -> JobState:
        return "failed" if phase == "fail" else super().state_after(phase, request)


class DisablesWhatWasEnabled(Model):
    """A run that stopped for a request to disable leaves its job disabled, whatever was asked since."""

    def state_after(self, phase: Phase, request: Request | None) -> JobState:
        return "disabled" if phase == "disable" else super().state_after(phase, request)


class ForgetsTheRequestOfTheLost(Model):
    """A rescue puts a job back that was asked to stop."""

    def rescue(self, state: State) -> State:
        jobs = tuple(job._replace(request=None) for job in state.jobs)
        rescued = super().rescue(state._replace(jobs=jobs))
        return state if rescued == state._replace(jobs=jobs) else rescued


class WithdrawsTheAbort(Model):
    """`enable` withdraws a request to abort too, and `disable` replaces it."""

    def asked(self, job: Job, word: str) -> Job | None:
        if job.state == "processing" and job.request == "abort" and word != "abort":
            # The answer is False, as it should be: `word` stays.
            return job._replace(request="disable" if word == "disable" else None)
        return super().asked(job, word)


MUTANTS: tuple[type[Model], ...] = (
    SettlesWithoutTheLease,
    SettlesAgain,
    RescuesTheLiving,
    RevivesTheLost,
    LetsTheLostClaim,
    StartsUnsure,
    BelievesTheAnswer,
    RecoversOnce,
    MarksNothing,
    CountsJobsThatNeverRan,
    CountsNoLostRun,
    FailsDespiteTheAbort,
    DisablesWhatWasEnabled,
    ForgetsTheRequestOfTheLost,
    WithdrawsTheAbort,
)
