"""The order in which jobs are claimed, and how long they wait, checked at each claim.

Each job that becomes PENDING gets a place: returned jobs before all others, then by priority, then by arrival. Jobs
that one operation puts back at once share a place, for the contract does not order them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from jobq_core.states import Ending, JobState
from jobq_core.storage import Settlement

RETURNING = (Ending.RELEASE, Ending.DISABLE)
"""The endings after which a job that becomes PENDING stands in the returned line, before all priorities."""

Place = tuple[bool, int, int, int]
"""Whether the job is not in the returned line; its priority, negated; the number of the operation; its number therein.
The smallest place is claimed first."""


class Lines:
    """The places of the PENDING jobs, and since when each of them waits."""

    def __init__(self) -> None:
        self._operations = itertools.count(1)
        self._places: dict[UUID, Place] = {}
        self.since: dict[UUID, float] = {}
        """When each PENDING job became so."""

    def passed_over(
        self, rows: Mapping[UUID, Any], claimed: set[UUID], settled: Mapping[UUID, Settlement], now: float, *, add: bool
    ) -> str | None:
        """Note what an operation did; return which job it claimed before one with a better place, or None.

        rows: all jobs, after the operation. claimed: those that it claimed. settled: the settlements that it was given.
        add: whether the operation adds jobs, in their order.
        """
        taken = [(self._places[job], job) for job in claimed if job in self._places]
        for job in claimed:
            self._forget(job)
        for job in [job for job in self._places if job not in rows or rows[job].state is not JobState.PENDING]:
            self._forget(job)
        left = [(place, job) for job, place in self._places.items()]
        number = next(self._operations)
        for index, (job, row) in enumerate(rows.items()):
            if row.state is JobState.PENDING and job not in self._places:
                returned = job in settled and settled[job].ending in RETURNING
                priority = 0 if returned else -row.job.priority
                self._places[job] = (not returned, priority, number, index if add else 0)
                self.since[job] = now
        if taken and left and max(taken)[0] > min(left)[0]:
            (place, last), (better, first) = max(taken), min(left)
            return f"job {last} at {place} was claimed before job {first} at {better}"
        return None

    def _forget(self, job: UUID) -> None:
        self._places.pop(job, None)
        self.since.pop(job, None)
