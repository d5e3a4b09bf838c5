"""The model with a rule left out in each, to see that the exploration finds what it is for."""

from __future__ import annotations

from .model import BELIEF, Answer, Job, Model, Registration, Run, State, Worker


class SettlesWithoutTheLease(Model):
    """A settlement counts for any holder of the job."""

    def counts(self, job: Job, run: Run) -> bool:
        return job.state == "processing"


class SettlesAgain(Model):
    """A settlement that is repeated counts each time."""

    def counts(self, job: Job, run: Run) -> bool:
        return job.lease == run.lease


class RescuesTheLiving(Model):
    """A worker is taken for lost while it may still believe in its leases."""

    def is_lost(self, left: int) -> bool:
        return left <= BELIEF


class RevivesTheLost(Model):
    """A beat of a worker that was taken for lost registers it again."""

    def renews(self, state: State, sender: Registration) -> bool:
        return True


class LetsTheLostClaim(Model):
    """A worker may claim whether it is registered or not; nobody looks for what it holds then."""

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
    """A worker starts what it has claimed without asking whether it still counts as alive."""

    def may_start(self, worker: Worker) -> bool:
        return True

    def unsure(self, worker: Worker) -> Worker:
        return worker._replace(sure=1)


class BelievesTheAnswer(Model):
    """A worker reckons its leases from the answer to its beat."""

    def belief(self, answer: Answer) -> int:
        return BELIEF + 1


class DoubtsOnce(Model):
    """A worker asks once what it has after a claim that was not answered."""

    def recovers(self, answer: Answer) -> bool:
        return answer.kind != "recover_claims"


class NotesNothing(Model):
    """A worker starts what it has claimed without having it noted."""

    def is_noted(self, job: Job) -> bool:
        return False


class CountsWhatNeverBegan(Model):
    """A rescue counts an attempt for whatever a lost worker held."""

    def counts_as_run(self, job: Job) -> bool:
        return True


class CountsNoLostRun(Model):
    """A rescue gives each attempt back, so that a job that kills its workers runs without end."""

    def counts_as_run(self, job: Job) -> bool:
        return False


MUTANTS: tuple[type[Model], ...] = (
    SettlesWithoutTheLease,
    SettlesAgain,
    RescuesTheLiving,
    RevivesTheLost,
    LetsTheLostClaim,
    StartsUnsure,
    BelievesTheAnswer,
    DoubtsOnce,
    NotesNothing,
    CountsWhatNeverBegan,
    CountsNoLostRun,
)
