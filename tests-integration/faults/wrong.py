"""The words for what no queue should do: those of the checker, the model and the schedules."""

from __future__ import annotations

from enum import StrEnum

import attrs


class Wrong(StrEnum):
    """What a history may show that no queue should do."""

    LOST = "lost"
    """An add was acknowledged, and there is no such job."""
    ADDED_TWICE = "added twice"
    """One add made two jobs."""
    KEPT_THOUGH_REFUSED = "kept though refused"
    """An add was refused, and the job is there."""
    LEASE_TWICE = "lease twice"
    """One lease was run twice, or was given for two jobs."""
    DOUBLY_OWNED = "run while another held the lease"
    """A run began under an older lease, or went on while a newer lease ran, and its process was in no trouble."""
    STALE_WRITE = "written under a lost lease"
    """The job's end is that of a run whose lease was over."""
    AFTER_THE_END = "run after the end"
    THOUGH_ABORTED = "run though aborted"
    """A run began after an abort was answered by the job's end, or a second lease ran after it was asked to stop."""
    UNEXPLAINED = "more runs than lost leases explain"
    """A run that is neither the last nor among the job's failed and lost ones, nor was told to stop."""
    LOST_WITHOUT_CAUSE = "lease lost without cause"
    """A lease was taken from a process that nobody had disturbed."""
    FAILED_UNRUN = "failed by a lost worker without a run"
    """The last lease was lost and so the job failed, but under that lease it never ran: it was only held."""
    TOO_MANY_ATTEMPTS = "more attempts than allowed"
    WRONG_RESULT = "wrong result"
    WRONG_END = "wrong end"
    """A job that had to complete failed, or the other way round, or it ended as none of its runs did."""
    EVENT_MISSING = "terminal event missing"
    EVENT_TWICE = "terminal event twice"
    EVENT_WRONG = "terminal event of another end"
    LIMIT = "limit exceeded"
    KEY_DOUBLED = "unique key doubled"
    KEY_MISLAID = "unique key held by the wrong job or by none"
    """A key is kept for a job that has ended or is gone, or a job that has not ended lacks its own."""
    MISPLACED = "in no place or several"
    """What is kept of a job does not say one state, or something is kept of a job that is gone."""
    MISCOUNTED = "miscounted"
    """The storage says that there is another number of jobs in a state than there is."""
    STUCK = "stuck"


class WrongInside(StrEnum):
    """What a history cannot show, and the model and the schedules see, which look into the storage at each step."""

    WITHOUT_LEASE = "run without a lease"
    """A run goes on whose lease is over, and the job waits for another."""
    UNNOTED = "run that nobody noted"
    """A run that had to be noted to begin began without."""
    UNCOUNTED = "run that does not count"
    """An attempt was given back, as of a job that never ran, though it ran: it may run for ever so."""
    LOST_LIVES = "a lost worker lives on"


@attrs.frozen(kw_only=True)
class Violation:
    """One thing wrong with one job (or one listener, or one limit), and what shows it."""

    wrong: Wrong
    subject: str
    details: str

    def __str__(self) -> str:
        return f"{self.wrong}: {self.subject}: {self.details}"
