"""Checks on the life of each job in a history: the last request, the last progress, the place in line, idle workers."""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import attrs
from wrong import Violation, Wrong

from jobq_core.states import JobState

if TYPE_CHECKING:
    from history import Final, History, Run

AT_ONCE = 2.0
"""Seconds within which two workers may start jobs in another order than they took them from the line."""
IDLE = 5.0
"""Seconds for which a job may wait beside a worker with a free slot, on a busy machine."""


@attrs.frozen(kw_only=True)
class Request:
    """Something asked of a job: 'abort', 'disable' or 'enable'. changed: the answer; None: unknown."""

    what: str
    asked: float
    answered: float = float("inf")
    changed: bool | None = None


@attrs.frozen(kw_only=True)
class Post:
    """A worker that serves all jobs of the history, from its start until it is told to stop."""

    pid: int
    slots: int
    start: float
    end: float = float("inf")


def _of(wrong: Wrong, job: Final | Run, details: str) -> Violation:
    return Violation(wrong=wrong, subject=f"{job.token} ({job.job})", details=details)


def of_requests(final: Final, requests: Sequence[Request]) -> Iterable[Violation]:
    """Check that the last request holds, if it was answered True and no other was under way at that time."""
    if not requests or any(request.changed is None for request in requests):
        return
    # A request that was answered False changed nothing.
    heeded = [request for request in requests if request.changed]
    if not heeded or any(one.answered > other.asked for one, other in itertools.pairwise(heeded)):
        return
    last = heeded[-1].what
    holds = {
        "abort": final.state in (JobState.ABORTED, JobState.COMPLETED),
        "disable": final.state in (JobState.DISABLED, JobState.COMPLETED),
        "enable": final.state not in (JobState.DISABLED, JobState.ABORTED),
    }
    if not holds[last]:
        asked = ", ".join(request.what for request in heeded)
        yield _of(Wrong.LAST_WORD, final, f"it was asked to {asked}, and is {final.state}")


def progress_lost(final: Final, runs: Sequence[Run], reports: Mapping[tuple[UUID, int], float]) -> Iterable[Violation]:
    """Check that the record has the last progress of the run that ended the job."""
    for run in runs:
        told = reports.get((run.job, run.lease))
        ended = final.state in (JobState.COMPLETED, JobState.FAILED) and run.ending in ("completed", "failed")
        if told is not None and ended and run.lease == final.lease and final.percent != told:
            yield _of(Wrong.PROGRESS_LOST, final, f"its run reported {told:g} %, and {final.percent:g} % is on record")


def of_line(history: History, finals: Mapping[UUID, Final], runs: Mapping[UUID, list[Run]]) -> Iterable[Violation]:
    """Check that no job was claimed long before another that stood before it in the line of its queue.

    A job stands in line from the answer to its add on; one whose worker handed it back, from the end of that worker at
    the latest, and before all others. Leases are numbered in the order of claiming. A worker that was late may have
    claimed a job and handed it back without a run, so jobs that stood in line at that time are not checked.
    """
    stood: defaultdict[str, list[tuple[float, Run]]] = defaultdict(list)
    came: defaultdict[str, list[tuple[float, Run]]] = defaultdict(list)
    for add in history.adds:
        final = finals.get(add.job) if add.job is not None else None
        its = runs.get(final.job, []) if final is not None else []
        if final is None or not add.due or not add.created or not its or final.lost or final.job in history.requests:
            continue
        if its[0].attempt == 1 and not any(run.ending == "stopped" for run in its):
            stood[final.queue].append((add.answered, its[0]))
            came[final.queue].append((add.asked, its[0]))
        for run, following in itertools.pairwise(its):
            if run.ending == "stopped" and run.attempt == following.attempt and run.pid in history.returned:
                stood[final.queue].append((history.returned[run.pid], following))
    for queue, firsts in stood.items():
        later = sorted(came[queue], key=lambda entry: entry[0])
        # The least lease of all jobs that came after each moment.
        least: list[Run] = []
        for _, run in reversed(later):
            least.append(run if not least or run.lease < least[-1].lease else least[-1])
        least.reverse()
        moments = [moment for moment, _ in later]
        for since, first in firsts:
            index = bisect.bisect_right(moments, since)
            if index == len(least) or _some_late(history, since, first.start):
                continue
            other = least[index]
            if other.lease < first.lease and first.start - other.start > AT_ONCE:
                yield _of(
                    Wrong.OUT_OF_LINE,
                    first,
                    f"it stood in line before {other.token} was added, which got lease {other.lease} and began "
                    f"{first.start - other.start:.3f} s before it got lease {first.lease}",
                )


def _some_late(history: History, since: float, until: float) -> bool:
    """Return whether some process was late in a part of this time."""
    return any(begin < until and since < end for spans in history.late.values() for begin, end in spans)


def of_waiting(history: History, runs: Mapping[UUID, list[Run]]) -> Iterable[Violation]:
    """Check that no job waited for its first run beside a worker that had a free slot all the time."""
    if not history.posts:
        return
    begun: defaultdict[int, list[tuple[float, int]]] = defaultdict(list)
    for run in history.runs:
        begun[run.pid] += [(run.start, 1), (float("inf") if run.end is None else run.end, -1)]
    for add in history.adds:
        its = runs.get(add.job, []) if add.job is not None and add.created and add.due else []
        if not its or its[0].start - add.answered <= IDLE or add.job in history.requests:
            continue
        first = its[0]
        for post in history.posts:
            if post.end < first.start or post.pid in history.disturbed or post.pid in history.late:
                continue
            free = max(add.answered, post.start, free_since(begun[post.pid], post.slots, first.start))
            if first.start - free > IDLE:
                yield _of(
                    Wrong.IDLE_BESIDE,
                    first,
                    f"it began {first.start - add.answered:.3f} s after its add; process {post.pid} had a free slot "
                    f"for the last {first.start - free:.3f} s of them",
                )


def free_since(moments: Sequence[tuple[float, int]], slots: int, until: float) -> float:
    """Return since when a worker has had a free slot all the time, at the moment `until`.

    moments: when it began (1) and ended (-1) its runs.
    """
    busy, since = 0, float("-inf")
    for at, step in sorted(moments):
        if at >= until:
            break
        if busy >= slots and step < 0:
            since = at
        busy += step
    return until if busy >= slots else since
