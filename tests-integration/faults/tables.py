"""Judge what the tables of a storage hold at one moment: each job in one place, each key with its job, all counted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence

import attrs
from wrong import Violation, Wrong

from jobq_core.states import JobState, is_finished

OF_TABLES = (Wrong.KEY_MISLAID, Wrong.MISPLACED, Wrong.MISCOUNTED)
"""What the storage's own tables show, whatever happened before."""


@attrs.frozen(kw_only=True)
class Kept:
    """What the tables of a storage hold at one moment, and what it says that it holds; each names jobs in its own way.

    counts: how many jobs there are by queue and state, in each way that this can be asked for. jobs: those whose
    submission is there, with the queue and the unique key of those that have a key. places: each state that is kept of
    a job. failed: the jobs of which failed runs are kept. keys: which job each unique key, with its queue, is held by.
    """

    counts: Sequence[Mapping[tuple[str, JobState], int]] = ()
    jobs: Mapping[Hashable, tuple[str, str] | None] = attrs.field(factory=dict)
    places: Sequence[tuple[Hashable, JobState]] = ()
    failed: Collection[Hashable] = ()
    keys: Sequence[tuple[Hashable, tuple[str, str]]] = ()


def check_tables(kept: Kept, there: Counter[tuple[str, JobState]]) -> list[Violation]:
    """Return all that is wrong with what the tables hold. there: how many jobs there are by queue and state."""
    return [*miscounted(kept, there), *_places(kept), *_keys(kept)]


def miscounted(kept: Kept, there: Counter[tuple[str, JobState]]) -> Iterator[Violation]:
    """Find where a storage counts other jobs than there are."""
    for counts in kept.counts:
        for queue, state in sorted({*there, *counts}):
            said, are = counts.get((queue, state), 0), there[queue, state]
            if said != are:
                details = f"{said} jobs are said to be {state}, and {are} are"
                yield Violation(wrong=Wrong.MISCOUNTED, subject=f"queue {queue!r}", details=details)


def _places(kept: Kept) -> Iterator[Violation]:
    states: defaultdict[Hashable, list[str]] = defaultdict(list)
    for job, state in kept.places:
        states[job].append(state)
    for job in kept.jobs:
        if len(states[job]) != 1:
            yield _of(Wrong.MISPLACED, job, f"it is {' and '.join(states[job]) or 'in no state'}")
    for job in (states.keys() | set(kept.failed)) - kept.jobs.keys():
        left = f"it is {' and '.join(states[job])}" if job in states else "there are failed runs of it"
        yield _of(Wrong.MISPLACED, job, f"{left}, and what was asked is gone")


def _keys(kept: Kept) -> Iterator[Violation]:
    unfinished = {job for job, state in kept.places if not is_finished(state)}
    wanted = {(job, key) for job, key in kept.jobs.items() if key is not None and job in unfinished}
    held = set(kept.keys)
    for job, key in held - wanted:
        yield _of(Wrong.KEY_MISLAID, job, f"key {key} is kept for it, and it has ended, is gone or has another")
    for job, key in wanted - held:
        yield _of(Wrong.KEY_MISLAID, job, f"it has not ended, and key {key} is not kept for it")


def _of(wrong: Wrong, job: Hashable, details: str) -> Violation:
    return Violation(wrong=wrong, subject=f"job {job}", details=details)
