"""The names of violations, for the checker, the explored model and the simulated schedules."""

from __future__ import annotations

from enum import StrEnum

import attrs


class Wrong(StrEnum):
    """Violations that a history can show."""

    LOST = "lost"
    """An add was acknowledged, and its job is missing."""
    ADDED_TWICE = "added twice"
    """One add made two jobs."""
    KEPT_THOUGH_REFUSED = "kept though refused"
    """An add was refused, and its job exists."""
    LEASE_TWICE = "lease twice"
    """One lease ran twice, or was given for two jobs."""
    DOUBLY_OWNED = "run while another held the lease"
    """A run began under an older lease, or went on while a newer lease ran, and its process was not interrupted."""
    STALE_WRITE = "written under a lost lease"
    """The job ended by a run whose lease had ended."""
    AFTER_THE_END = "run after the end"
    THOUGH_ABORTED = "run though aborted"
    """A run began after an abort that ended the job, or a second lease ran after a running job was asked to stop."""
    LAST_WORD = "against the last request"
    """The last of the requests that were answered True (abort, disable, enable) does not hold."""
    OUT_OF_LINE = "claimed out of line"
    """A job was claimed before another that stood before it: handed back earlier, more urgent or earlier in line."""
    IDLE_BESIDE = "waited beside an idle worker"
    """A job waited for long, while a worker that knows its kind had a free slot."""
    PROGRESS_LOST = "last progress report lost"
    """The job ended under a lease whose run had reported other progress than the record has."""
    UNEXPLAINED = "more runs than lost leases explain"
    """A run is not the last, not among the job's failed and lost runs, and was not told to stop."""
    LOST_WITHOUT_CAUSE = "lease lost without cause"
    """A process lost a lease though nothing disturbed it."""
    FAILED_UNRUN = "failed by a lost worker without a run"
    """The job failed because its last lease was lost, but it never ran under that lease."""
    TOO_MANY_ATTEMPTS = "more attempts than allowed"
    WRONG_RESULT = "wrong result"
    WRONG_END = "wrong end"
    """A job that had to complete failed, or the reverse, or its end matches no run."""
    EVENT_MISSING = "terminal event missing"
    EVENT_TWICE = "terminal event twice"
    EVENT_WRONG = "terminal event of another end"
    LIMIT = "limit exceeded"
    KEY_DOUBLED = "unique key doubled"
    KEY_MISLAID = "unique key held by the wrong job or by no job"
    """A key is kept for a job that has ended or is missing, or an unfinished job lacks its key."""
    MISPLACED = "in no state or several"
    """The tables do not give a job exactly one state, or hold rows of a job that is missing."""
    MISCOUNTED = "miscounted"
    """The storage's count of jobs in a state is wrong."""
    STUCK = "stuck"


class WrongInside(StrEnum):
    """Violations that a history cannot show; the explored model and the simulation find them, as they see each step."""

    WITHOUT_LEASE = "run without a lease"
    """A run goes on after its lease ended, while the job waits for its next run."""
    UNMARKED = "run without a start mark"
    """A run began without the start mark that it needed."""
    UNCOUNTED = "run that is not counted"
    """A rescue did not count an attempt, though the job ran; it may run forever."""
    LOST_LIVES = "a lost worker is revived"
    FOLLOWED = "failure not followed once"
    """A job failed, and its follow-up was added more than once, or neither added nor kept for later."""


@attrs.frozen(kw_only=True)
class Violation:
    """One violation. subject: the job, queue, listener or limit; details: the evidence."""

    wrong: Wrong
    subject: str
    details: str

    def __str__(self) -> str:
        return f"{self.wrong}: {self.subject}: {self.details}"
