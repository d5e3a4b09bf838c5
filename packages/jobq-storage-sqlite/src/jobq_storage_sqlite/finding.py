"""Finding jobs by a filter, and counting those that match."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec

from jobq_core.parents import mark_of
from jobq_core.states import FINISHED, JobState
from jobq_core.storage import COUNT_LIMIT, SEARCHED, JobFilter, Page, ReaderStorage
from jobq_core.storage.searching import near_parent
from jobq_storage_sqlite.candidates import PAGE_SPANS, are_few, candidates, parameters_of
from jobq_storage_sqlite.columns import to_array, to_id
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.records import to_summary
from jobq_storage_sqlite.spans import start_of

READ: Final = 50_000
"""The number of jobs that `count` reads to know if they match."""


class Finding(StorageOnFile, ReaderStorage):
    """Finds and counts through the reader, in several reads."""

    async def find(self, filter: JobFilter, *, after: UUID | None = None, limit: int = 100) -> Page:
        limit = max(limit, 0)
        if filter.searches:
            return await search(self, *await near_parent(self, filter, after), limit)
        # One more shows whether there is a next page.
        rows, reached = await read(self, "find", filter, after, limit + 1)
        jobs = [to_summary(row) for row in rows[:limit]]
        if len(rows) <= limit:
            return Page(jobs, reached)
        return Page(jobs, jobs[-1].id if jobs else None)

    async def count(self, filter: JobFilter, *, limit: int = COUNT_LIMIT) -> int | None:
        if filter.searches:
            wanted, after = await near_parent(self, filter)
            rows, reached = await read(self, "search", wanted, after, SEARCHED + 1, _searched(filter))
            if len(rows) > SEARCHED or reached is not None:
                return None
            counted: int | None = sum(bool(found) for _, _, found in rows)
        else:
            counted = await count(self, filter, limit)
        return None if counted is None or counted > limit else counted


async def read(
    storage: StorageOnFile,
    name: str,
    filter: JobFilter,
    after: UUID | None,
    limit: int,
    more: dict[str, Any] | None = None,
) -> tuple[list[Any], UUID | None]:
    """Return up to `limit` rows of a statement about the jobs that match, the newest id first; and the id down to which
    they were looked for, if that is not the end."""
    parameters = parameters_of(filter) | (more or {})
    rows: list[Any] = []
    looked = 0
    async for way, first, before, spans in candidates(storage, filter, after):
        bounds = {"first": first, "before": before, "spans": spans, "limit": limit - len(rows)}
        rows += await storage._read(name + way, **parameters, **bounds)
        if len(rows) >= limit:
            break
        if spans is not None:
            pairs = msgspec.json.decode(spans)
            looked += sum(end - start for start, end in pairs)
            if looked > PAGE_SPANS:
                return rows, UUID(bytes=start_of(pairs[-1][0]))
    return rows, None


async def search(storage: StorageOnFile, filter: JobFilter, after: UUID | None, limit: int) -> Page:
    """Look at up to SEARCHED jobs that match otherwise, and return those that are searched for."""
    rows, reached = await read(storage, "search", filter, after, SEARCHED + 1, _searched(filter))
    numbers: list[int] = []
    looked = 0
    for n, _, found in rows[:SEARCHED]:
        if len(numbers) == limit:
            break
        looked += 1
        if found:
            numbers.append(n)
    jobs = await storage._read("find_numbers", numbers=to_array(numbers)) if numbers else []
    return Page([to_summary(row) for row in jobs], to_id(rows[looked - 1][1]) if 0 < looked < len(rows) else reached)


def _searched(filter: JobFilter) -> dict[str, Any]:
    """Return the parameters of `is_found`."""
    return {
        "error_type": filter.error_type,
        "error": None if filter.error is None else filter.error.lower(),
        "argument": None if filter.argument is None else msgspec.json.encode(filter.argument),
        "worker": None if filter.worker is None else filter.worker.bytes,
        "parent": None if filter.parent is None else mark_of(filter.parent),
    }


async def count(storage: StorageOnFile, filter: JobFilter, limit: int) -> int | None:
    """Return the number of jobs that match, or one above the limit; None if too many would have to be read."""
    by_state = filter.run_id is None and not filter.tags and filter.since is None and filter.until is None
    if by_state and not (filter.kinds and await are_few(storage, filter)):
        return await _count_by_state(storage, filter, limit)
    parameters, counted, looked = parameters_of(filter), 0, 0
    async for way, first, before, spans in candidates(storage, filter, None, every=True):
        if spans is not None:
            ((jobs,),) = await storage._read("jobs_in_spans", spans=spans, read=READ + 1)
            looked += jobs
            if looked > READ:
                return None
        bounds = {"first": first, "before": before, "spans": spans, "limit": limit + 1 - counted}
        ((more,),) = await storage._read("count_jobs" + way, **parameters, **bounds)
        counted += more
        if counted > limit:
            break
    return counted


async def _count_by_state(storage: StorageOnFile, filter: JobFilter, limit: int) -> int | None:
    """As `count`, by the numbers that are kept of finished jobs, and by the indexes of the states of the others."""
    asked = filter.states or frozenset(JobState)
    counted, others = asked & FINISHED if filter.kinds else asked, asked - FINISHED
    parameters = parameters_of(filter)
    ((number,),) = await storage._read("count_states", **parameters | {"states": to_array(sorted(counted))})
    if filter.kinds and others and number <= limit:
        states = {"states": to_array(sorted(others)), "read": READ + 1}
        ((looked, more),) = await storage._read("count_kinds_in_states", **parameters | states)
        if looked > READ:
            return None
        number += more
    return int(number)
