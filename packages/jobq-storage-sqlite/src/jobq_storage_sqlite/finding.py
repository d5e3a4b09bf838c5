"""Finding jobs by a filter, without reading the many that do not match."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from uuid import UUID

from jobq_core.states import JobState
from jobq_core.storage import JobFilter
from jobq_storage_sqlite.columns import to_array
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.spans import AFTER_ALL_IDS, END, span_of, start_of

FEW: Final = 50_000
FEW_ENDED: Final = 5_000
"""The largest number of jobs in the states of a filter that are found by state and then sorted. The second if failed or
aborted ones are asked for: those are found by their spans, too."""

NAMES: Final = 20
"""The largest number of kinds by whose spans jobs are found."""

SPANS: Final = (8, 64, 512)
"""How many spans are looked through first, then, and from then on at a time."""

_ENDED: Final = frozenset({JobState.FAILED, JobState.ABORTED})


async def find(storage: StorageOnFile, filter: JobFilter, after: UUID | None, limit: int) -> list[Any]:
    """Return up to `limit` rows of summaries, the newest id first."""
    states = to_array(sorted(filter.states)) if filter.states else None
    newest = AFTER_ALL_IDS if after is None else after.bytes
    parameters: dict[str, Any] = {
        "first": b"",
        "before": newest,
        "queue": filter.queue,
        "states": states,
        "kinds": to_array(filter.kinds) if filter.kinds else None,
        "tags": to_array(filter.tags) if filter.tags else None,
        "limit": limit,
    }
    if filter.run_id is not None:
        return await storage._read("find_run_id", run_id=filter.run_id, **parameters)
    few = FEW_ENDED if filter.states & _ENDED else FEW
    by_state = filter.states and JobState.COMPLETED not in filter.states
    if by_state and await _are_few(storage, states, filter.queue, few):
        return await storage._read("find_states", **parameters)
    what, names = _driver(filter)
    if not names:
        return await storage._read("find", **parameters)
    asked = {name: parameters[name] for name in ("queue", "kinds", "tags")}
    asked["ended"] = states if filter.states and filter.states <= _ENDED else None
    walk = Walk(storage, what, names, asked, END if after is None else span_of(after) + 1)
    found: list[Any] = []
    async for first, before in walk.ranges():
        bounds = {"first": first, "before": min(before, newest)}
        found += await storage._read("find", **parameters | bounds | {"limit": limit - len(found)})
        if len(found) >= limit:
            break
    return found


async def _are_few(storage: StorageOnFile, states: str | None, queue: str | None, few: int) -> bool:
    ((count,),) = await storage._read("count_states", states=states, queue=queue, limit=few + 1)
    return bool(count <= few)


def _driver(filter: JobFilter) -> tuple[str, tuple[str, ...]]:
    """Return the criterion of a filter that is likely to match the fewest jobs; its spans are searched."""
    if filter.tags:
        return "tag", filter.tags[:1]
    if 0 < len(filter.kinds) <= NAMES:
        return "kind", filter.kinds
    if filter.states and filter.states <= _ENDED:
        return "state", tuple(state.value for state in filter.states)
    return "queue", () if filter.queue is None else (filter.queue,)


class Walk:
    """A walk from the newest span to the oldest, through those that may have jobs that are asked for."""

    def __init__(
        self, storage: StorageOnFile, what: str, names: Sequence[str], asked: dict[str, Any], end: int
    ) -> None:
        self._storage = storage
        self._what = what
        self._names = names
        self._asked = asked
        self._end = end

    async def ranges(self) -> AsyncIterator[tuple[bytes, bytes]]:
        """Yield ranges of ids, the newest first."""
        sizes = iter(SPANS)
        size = 0
        while True:
            size = next(sizes, size)
            spans = await self._next(size)
            for first, end in _merged(spans):
                yield start_of(first), start_of(end)
            if len(spans) < size:
                break
            self._end = spans[-1]

    async def _next(self, size: int) -> list[int]:
        """Return the next spans, up to `size`, in descending order."""
        spans: set[int] = set()
        for name in self._names:
            rows = await self._storage._read(
                "find_spans", what=self._what, of=name, end=self._end, limit=size, **self._asked
            )
            spans.update(span for (span,) in rows)
        return sorted(spans, reverse=True)[:size]


def _merged(spans: list[int]) -> list[list[int]]:
    """Return spans, which are in descending order, as ranges; neighbours become one."""
    ranges: list[list[int]] = []
    for span in spans:
        if ranges and ranges[-1][0] == span + 1:
            ranges[-1][0] = span
        else:
            ranges.append([span, span + 1])
    return ranges
