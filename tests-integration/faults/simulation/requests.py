"""What clients asked of each job, written from the contract: a call that is answered True holds, and the last one wins.

It is told each answer in the order in which the calls took effect, so it needs no clock and reads no row.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from uuid import UUID

from jobq_core.states import Ending, JobState
from jobq_core.storage import Change

S = JobState

WORDS = ("abort", "disable", "enable")
"""The operations that say whether a job shall go on. `retry` and `delete` start a new life, or end it."""

AFTER_ENDING: dict[Ending, AbstractSet[JobState]] = {
    Ending.FAIL: {S.FAILED},
    Ending.ABORT: {S.ABORTED},
    Ending.DISABLE: {S.PENDING},
    Ending.RETRY: {S.SCHEDULED, S.PENDING},
    Ending.RELEASE: {S.PENDING, S.BLOCKED},
    Ending.SNOOZE: {S.SCHEDULED, S.PENDING},
    Ending.SUSPEND: {S.BLOCKED},
}
"""The states that an ending may lead to if nobody asked for anything. DISABLE: `enable` withdrew the request."""


class Requests:
    """The last word on each job, and the request that its current lease must end by."""

    def __init__(self) -> None:
        self._open: dict[UUID, str] = {}
        self.last: dict[UUID, str] = {}
        """The last of WORDS that changed each job."""

    def refusal(self, name: str, change: Change) -> str | None:
        """Note the answer to a control operation; return how it contradicts the contract, or None."""
        if name == "retry" or name == "delete":
            if change.changed:
                self._open.pop(change.id, None)
                self.last.pop(change.id, None)
            return None
        if name not in WORDS:
            return None
        if change.changed:
            self.last[change.id] = name
        if change.before is not S.PROCESSING:
            return None
        asked = self._open.get(change.id)
        heeded = (
            name == "abort" or (name == "disable" and asked != "abort") or (name == "enable" and asked == "disable")
        )
        if change.asked != heeded:
            return f"{name} of a running job that is asked to {asked} was answered with asked={change.asked}"
        if name == "enable" and heeded:
            del self._open[change.id]
        elif heeded:
            self._open[change.id] = name
        return None

    def ended(self, job: UUID, ending: Ending | None, state: JobState | None) -> str | None:
        """Note that a lease ended; return how the job's state contradicts what was asked, or None.

        ending: of its settlement; None: it was rescued. state: of the job; None: it was deleted.
        """
        asked = self._open.pop(job, None)
        if state is None:
            return None
        if ending is Ending.COMPLETE:
            allowed: AbstractSet[JobState] = {S.COMPLETED}
        elif asked is not None:
            allowed = {S.ABORTED if asked == "abort" else S.DISABLED}
        else:
            allowed = AFTER_ENDING[ending] if ending is not None else {S.PENDING, S.BLOCKED, S.FAILED}
        if state in allowed:
            return None
        how = "was rescued" if ending is None else f"was settled by {ending}"
        return f"the last request was {asked}, its run {how}, and the job is {state}"
