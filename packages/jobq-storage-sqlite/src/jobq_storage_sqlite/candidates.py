"""Where jobs that match a filter may be, so that the many others need not be read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from jobq_core.states import JobState
from jobq_core.storage import JobFilter
from jobq_core.timestamps import to_moment
from jobq_storage_sqlite.columns import to_array
from jobq_storage_sqlite.depths import range_of
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.spans import AFTER_ALL_IDS, APART, END, apart_name, merged, span_at, span_of, start_of

FEW: Final = 5_000
"""The largest number of jobs in the states of a filter that are found by state and then sorted."""

MANY: Final = 150_000
"""The same behind the newest jobs, which are looked through first."""

NEWEST: Final = 5_000
"""How many jobs are looked through before those in the states of a filter are sorted."""

NAMES: Final = 20
"""The largest number of kinds by whose spans jobs are found."""

SPANS: Final = (8, 64, 512)
"""How many spans are looked through first, then, and from then on at a time."""

PAGE_SPANS: Final = 3_500
"""How many spans one page looks through. After that it is short, and the rest is left to the next one."""

_ENDED: Final = frozenset({JobState.FAILED, JobState.ABORTED})


class Candidates(NamedTuple):
    """Jobs that may match: `find`, `search` and `count_jobs` have a statement for each way to come to them.

    way: the end of the statement's name. first, before: the ids from the first on, and before the second. spans: where
    they are among those, as pairs of spans in a JSON array.
    """

    way: str
    first: bytes
    before: bytes
    spans: str | None = None


def parameters_of(filter: JobFilter) -> dict[str, Any]:
    """Return the parameters of the statements with `filters`, but for the range of ids."""
    return {
        **range_of(filter.queue),
        "queue": filter.queue,
        "states": to_array(sorted(filter.states)) if filter.states else None,
        "kinds": to_array(filter.kinds) if filter.kinds else None,
        "tags": to_array(filter.tags) if filter.tags else None,
        "run_id": filter.run_id,
        "since": to_moment(filter.since, 0),
        "until": to_moment(filter.until, 0),
    }


async def candidates(
    storage: StorageOnFile, filter: JobFilter, after: UUID | None, *, every: bool = False
) -> AsyncIterator[Candidates]:
    """Yield where to look for jobs that match and precede `after`, the newest ids first.

    every: whether all jobs that match are wanted.
    """
    newest = AFTER_ALL_IDS if after is None else after.bytes
    if filter.run_id is not None:
        yield Candidates("_in_run", b"", newest)
        return
    if filter.states and JobState.COMPLETED not in filter.states:
        ((count,),) = await storage._read("count_states", **parameters_of(filter) | {"kinds": None})
        in_time = filter.since is not None or filter.until is not None
        # Failed and aborted jobs of a time are found by their spans.
        every = every and not filter.tags and not (in_time and filter.states <= _ENDED)
        if count <= (MANY if every else FEW):
            yield Candidates("_in_states", b"", newest)
            return
        # Those with a tag are found by its spans, and failed and aborted ones by theirs.
        if count <= MANY and not filter.tags and not filter.states <= _ENDED:
            rows = await storage._read("find_floor", before=newest, count=NEWEST)
            floor = rows[0][0] if rows else b""
            yield Candidates("", floor, newest)
            if floor:
                yield Candidates("_in_states", b"", floor)
            return
    what, names = _driver(filter)
    last = END if after is None else span_of(after) + 1
    for start, end in await _intervals(storage, filter):
        if start >= last:
            continue
        if not names:
            yield Candidates("", start_of(start), min(start_of(end), newest))
            continue
        walk = Walk(storage, what, names, filter, start, min(end, last))
        async for pairs in walk.ranges():
            yield Candidates("_in_spans", b"", newest, to_array(pairs))


async def _intervals(storage: StorageOnFile, filter: JobFilter) -> list[tuple[int, int]]:
    """Return the spans in which jobs were added in the filter's time, as ranges, the newest first."""
    if filter.since is None and filter.until is None:
        return [(0, END)]
    since = 0 if filter.since is None else span_at(to_moment(filter.since, 0))
    until = END if filter.until is None else span_at(to_moment(filter.until, 0))
    start, end = max(since - APART, 0), min(until + APART + 1, END)
    rows = await storage._read("find_apart", since=apart_name(since), until=apart_name(until), limit=SPANS[-1])
    if len(rows) == SPANS[-1]:
        return [(0, END)]
    apart = [(span, span + 1) for (span,) in rows if not start <= span < end]
    return merged(sorted([*apart, (start, end)] if start < end else apart, reverse=True))


def _driver(filter: JobFilter) -> tuple[str, tuple[str, ...]]:
    """Return the criterion of a filter that is likely to match the fewest jobs; its spans are searched."""
    if filter.tags:
        return "tag", filter.tags[:1]
    if 0 < len(filter.kinds) <= NAMES:
        return "kind", filter.kinds
    if filter.states and filter.states <= _ENDED:
        return "state", tuple(state.value for state in filter.states)
    return "queue", () if filter.queue is None else (filter.queue,)


async def are_few(storage: StorageOnFile, filter: JobFilter) -> bool:
    """Whether the jobs of the kinds of a filter are in few spans: then they are found by these."""
    if len(filter.kinds) > NAMES:
        return False
    return len(await Walk(storage, "kind", filter.kinds, filter, 0, END)._next(SPANS[-1])) < SPANS[-1]


class Walk:
    """A walk from the newest span to the oldest, through those of a range that may have jobs that are asked for."""

    def __init__(
        self, storage: StorageOnFile, what: str, names: Sequence[str], filter: JobFilter, start: int, end: int
    ) -> None:
        asked = parameters_of(filter)
        self._storage = storage
        self._names = names
        self._asked = {name: asked[name] for name in ("queue", "kinds", "tags")} | {
            "what": what,
            "ended": asked["states"] if filter.states and filter.states <= _ENDED else None,
            "start": start,
        }
        self._end = end

    async def ranges(self) -> AsyncIterator[list[tuple[int, int]]]:
        """Yield ranges of spans, the newest first."""
        sizes = iter(SPANS)
        size = 0
        while True:
            size = next(sizes, size)
            spans = await self._next(size)
            if spans:
                yield merged((span, span + 1) for span in spans)
            if len(spans) < size:
                break
            self._end = spans[-1]

    async def _next(self, size: int) -> list[int]:
        """Return the next spans, up to `size`, in descending order."""
        spans: set[int] = set()
        for name in self._names:
            rows = await self._storage._read("find_spans", of=name, end=self._end, limit=size, **self._asked)
            spans.update(span for (span,) in rows)
        return sorted(spans, reverse=True)[:size]
