"""Finding jobs by a filter, without reading the many that do not match."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from jobq_core.states import JobState
from jobq_core.storage import JobFilter
from jobq_storage_sqlite.columns import to_array
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.spans import span_of, start_of

FEW: Final = 50_000
"""The largest number of jobs in the states of a filter that are found by state and then sorted."""

SPANS: Final = (8, 64, 512)
"""How many spans are looked through first, then, and from then on at a time."""

_AFTER_ALL_IDS: Final = b"\xff" * 17
_ALL_SPANS: Final = 1 << 62


async def find(storage: StorageOnFile, filter: JobFilter, after: UUID | None, limit: int) -> list[Any]:
    """Return up to `limit` rows of summaries, the newest id first."""
    states = to_array(sorted(filter.states)) if filter.states else None
    parameters = {
        "first": b"",
        "before": _AFTER_ALL_IDS if after is None else after.bytes,
        "queue": filter.queue,
        "states": states,
        "kinds": to_array(filter.kinds) if filter.kinds else None,
        "tags": to_array(filter.tags) if filter.tags else None,
        "limit": limit,
    }
    if filter.run_id is not None:
        return await storage._read("find_run_id", run_id=filter.run_id, **parameters)
    if filter.states and JobState.COMPLETED not in filter.states and await _are_few(storage, states):
        return await storage._read("find_states", **parameters)
    driver = _driver(filter)
    if driver is None:
        return await storage._read("find", **parameters)
    return await _find_in_spans(storage, driver, parameters, _ALL_SPANS if after is None else span_of(after) + 1)


async def _are_few(storage: StorageOnFile, states: str | None) -> bool:
    ((count,),) = await storage._read("count_states", states=states, limit=FEW + 1)
    return bool(count <= FEW)


def _driver(filter: JobFilter) -> tuple[str, str] | None:
    """Return what is likely to be rarest of what a filter asks for, by the spans of which jobs are found."""
    if filter.tags:
        return "tag", filter.tags[0]
    if len(filter.kinds) == 1:
        return "kind", filter.kinds[0]
    if filter.queue is not None:
        return "queue", filter.queue
    if len(filter.states) == 1 and (state := next(iter(filter.states))) in (JobState.FAILED, JobState.ABORTED):
        return "state", state.value
    return None


async def _find_in_spans(
    storage: StorageOnFile, driver: tuple[str, str], parameters: dict[str, Any], end: int
) -> list[Any]:
    what, of = driver
    asked = {name: parameters[name] for name in ("queue", "kinds", "tags")}
    found: list[Any] = []
    sizes = iter(SPANS)
    size = 0
    while True:
        size = next(sizes, size)
        rows = await storage._read("find_spans", what=what, of=of, end=end, **asked | {"limit": size})
        spans = [span for (span,) in rows]
        for first, before in _ranges(spans):
            bounds = {"first": first, "before": min(before, parameters["before"])}
            found += await storage._read("find", **parameters | bounds | {"limit": parameters["limit"] - len(found)})
            if len(found) >= parameters["limit"]:
                return found
        if len(spans) < size:
            return found
        end = spans[-1]


def _ranges(spans: list[int]) -> list[tuple[bytes, bytes]]:
    """Return spans, which are in descending order, as ranges of ids; neighbours become one range."""
    ranges: list[list[int]] = []
    for span in spans:
        if ranges and ranges[-1][0] == span + 1:
            ranges[-1][0] = span
        else:
            ranges.append([span, span + 1])
    return [(start_of(first), start_of(end)) for first, end in ranges]
