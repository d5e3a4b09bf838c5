"""`Settling`: the settlements of one call, and the states that they led to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias
from uuid import UUID

from jobq_core.encoding import decode
from jobq_core.states import Ending, JobState
from jobq_core.storage import ENDED_TOPIC, FINISHED_TOPIC, NewJob, Settlement, blocked_topic
from jobq_storage_postgres.columns import pack_completed, pack_settlements
from jobq_storage_postgres.programs import Last, Program
from jobq_storage_postgres.protocol import Step
from jobq_storage_postgres.sql import Statements
from jobq_storage_postgres.topics import topic_of_state

_BUSY: Final = "busy"

Key: TypeAlias = "tuple[UUID, int]"
"""Job and lease."""


class Settling:
    """Settlements, split by the statement that settles them.

    settlements: those of the call without the repeated ones, of which the first one counts.
    topics: what to notify once they are committed.
    """

    def __init__(self, settlements: Sequence[Settlement]) -> None:
        repeated = len({settlement.lease for settlement in settlements}) < len(settlements)
        self.settlements = _first_ones(settlements) if repeated else settlements
        self.topics: set[str] = set()
        self._completed: list[Settlement] = []
        self._others: list[tuple[int, Settlement]] = []
        self._all_completed = False
        self._states: dict[Key, JobState] = {}
        self._busy: set[Key] = set()
        self._took: set[Key] = set()
        for index, settlement in enumerate(self.settlements):
            if settlement.ending is Ending.COMPLETE and settlement.progress is None:
                self._completed.append(settlement)
            else:
                self._others.append((index, settlement))

    def steps(self, statements: Statements) -> list[Step]:
        """Return the statements that settle. None of them waits for a row, so their order does not matter."""
        steps: list[Step] = []
        if self._completed:
            steps.append((statements["complete"], pack_completed(self._completed)))
        if self._others:
            steps.append((statements["settle"], pack_settlements(self._others)))
        return steps

    def take(self, answers: Sequence[Sequence[Any]]) -> None:
        """Take the rows of the statements, each time that the transaction is tried."""
        self._all_completed = False
        self._states.clear()
        self.topics.clear()
        self._busy.clear()
        self._took.clear()
        left = list(answers)
        if self._completed:
            self._take_completed(*left.pop(0)[0])
        if self._others:
            self._take_others(left.pop(0))

    def _take_completed(
        self, count: int, ids: Sequence[UUID] | None, leases: Sequence[int] | None, unknown: bytes | None
    ) -> None:
        if count:
            self.topics.add(FINISHED_TOPIC)
        if count == len(self._completed):
            if not self._others:
                self._all_completed = True  # the most common case, which needs no keys
                return
            took = [(s.id, s.lease) for s in self._completed]
        else:
            took = list(zip(ids or (), leases or (), strict=True))
            known = set(took)
            for text, lease, state in decode(unknown or b"[]"):
                if (key := (UUID(text), lease)) not in known:
                    self._note(*key, state)
        self._states.update(dict.fromkeys(took, JobState.COMPLETED))
        self._took.update(took)

    def _take_others(self, rows: Sequence[tuple[UUID | None, int, str, str | None]]) -> None:
        suspended = {(s.id, s.lease) for _, s in self._others if s.ending is Ending.SUSPEND}
        for job_id, lease, name, queue in rows:
            if job_id is None:
                self.topics.add(ENDED_TOPIC)
                continue
            key = job_id, lease
            if queue is None:
                self._note(job_id, lease, name)
                continue
            state = self._states[key] = JobState(name)
            self._took.add(key)
            self.topics.add(topic_of_state(state, queue))
            if state is JobState.BLOCKED and key in suspended:
                self.topics.add(blocked_topic(queue))

    def _note(self, job_id: UUID, lease: int, state: str) -> None:
        """Record what is known about a settlement that did not take effect now."""
        if state == _BUSY:
            self._busy.add((job_id, lease))
        else:
            self._states[job_id, lease] = JobState(state)

    def states(self, settlements: Sequence[Settlement]) -> list[JobState | None]:
        """Return the state that each settlement led to, now or before."""
        if self._all_completed:
            return [JobState.COMPLETED] * len(settlements)
        return [self._states.get((s.id, s.lease)) for s in settlements]

    def busy(self, settlements: Sequence[Settlement]) -> tuple[int, ...]:
        """Return the indexes of those whose rows another transaction holds."""
        if not self._busy:
            return ()
        return tuple(index for index, s in enumerate(settlements) if (s.id, s.lease) in self._busy)

    def children(self) -> list[NewJob]:
        """Return the jobs of the settlements that took effect."""
        took = [s for s in self.settlements if self._all_completed or (s.id, s.lease) in self._took]
        return [job for s in took for job in s.jobs]


def _first_ones(settlements: Sequence[Settlement]) -> list[Settlement]:
    first: dict[Key, Settlement] = {}
    for settlement in settlements:
        first.setdefault((settlement.id, settlement.lease), settlement)
    return list(first.values())


def settle(statements: Statements, settling: Settling) -> Program[None]:
    """Settle runs, whose states `settling` then knows; a program for one transaction."""
    settling.take((yield Last(settling.steps(statements))))
