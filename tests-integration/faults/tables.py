"""Check the tables of a storage at one moment: one state per job, each key with its job, all counts right."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence

import attrs
from wrong import Violation, Wrong

from jobq_core.states import JobState, is_finished

OF_TABLES = (Wrong.KEY_MISLAID, Wrong.MISPLACED, Wrong.MISCOUNTED)
"""The violations that the storage's tables show without a history."""


@attrs.frozen(kw_only=True)
class Kept:
    """What the tables of a storage hold at one moment, and what it counts. Each storage identifies jobs in its own way.

    counts: number of jobs by queue and state, once for each way to ask for it. jobs: the jobs that have a row of what
    was added, with the queue and unique key of those that have a key. places: (job, state) for each state that a table
    gives a job. failed: the jobs that have failed runs. keys: (job, (queue, unique key)) for each unique key held.
    """

    counts: Sequence[Mapping[tuple[str, JobState], int]] = ()
    jobs: Mapping[Hashable, tuple[str, str] | None] = attrs.field(factory=dict)
    places: Sequence[tuple[Hashable, JobState]] = ()
    failed: Collection[Hashable] = ()
    keys: Sequence[tuple[Hashable, tuple[str, str]]] = ()


def check_tables(kept: Kept, there: Counter[tuple[str, JobState]]) -> list[Violation]:
    """Return all violations in the tables. there: the true number of jobs by queue and state."""
    return [*miscounted(kept, there), *_places(kept), *_keys(kept)]


def miscounted(kept: Kept, there: Counter[tuple[str, JobState]]) -> Iterator[Violation]:
    """Yield a violation for each count of a storage that is wrong."""
    for counts in kept.counts:
        for queue, state in sorted({*there, *counts}):
            said, are = counts.get((queue, state), 0), there[queue, state]
            if said != are:
                details = f"the storage counts {said} jobs as {state}, and {are} are"
                yield Violation(wrong=Wrong.MISCOUNTED, subject=f"queue {queue!r}", details=details)


def _places(kept: Kept) -> Iterator[Violation]:
    states: defaultdict[Hashable, list[str]] = defaultdict(list)
    for job, state in kept.places:
        states[job].append(state)
    for job in kept.jobs:
        if len(states[job]) != 1:
            yield _of(Wrong.MISPLACED, job, f"it is {' and '.join(states[job]) or 'in no state'}")
    for job in (states.keys() | set(kept.failed)) - kept.jobs.keys():
        left = f"it is {' and '.join(states[job])}" if job in states else "it has failed runs"
        yield _of(Wrong.MISPLACED, job, f"{left}, but the row of what was added is missing")


def _keys(kept: Kept) -> Iterator[Violation]:
    unfinished = {job for job, state in kept.places if not is_finished(state)}
    wanted = {(job, key) for job, key in kept.jobs.items() if key is not None and job in unfinished}
    held = set(kept.keys)
    for job, key in held - wanted:
        yield _of(Wrong.KEY_MISLAID, job, f"key {key} is kept for it, but it has ended, is missing or has another key")
    for job, key in wanted - held:
        yield _of(Wrong.KEY_MISLAID, job, f"it has not ended, but key {key} is not kept for it")


def _of(wrong: Wrong, job: Hashable, details: str) -> Violation:
    return Violation(wrong=wrong, subject=f"job {job}", details=details)
