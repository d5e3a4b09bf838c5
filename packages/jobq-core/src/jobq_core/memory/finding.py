"""Finding jobs by a filter, and counting those that match."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from uuid import UUID

from jobq_core.memory.rows import Row
from jobq_core.memory.store import Store
from jobq_core.memory.transaction import MemoryTransactions
from jobq_core.parents import mark_of
from jobq_core.storage import COUNT_LIMIT, SEARCHED, JobFilter, Page, ReaderStorage
from jobq_core.storage.searching import has_argument, has_error, near_parent
from jobq_core.timestamps import to_moment


class Finding(MemoryTransactions, ReaderStorage):
    """The operations of the facet of readers with a filter."""

    async def find(self, filter: JobFilter, *, after: UUID | None = None, limit: int = 100) -> Page:
        wanted, after = await near_parent(self, filter, after)
        with self._transaction() as store:
            older = _matching(store, wanted, after)
            # One more than is read shows whether there is a next page.
            most = SEARCHED if filter.searches else limit
            candidates = heapq.nlargest(most + 1, older, key=lambda row: row.job.id.int)
            found: list[Row] = []
            last: Row | None = None
            for last in candidates[:most]:
                if _is_found(last, filter):
                    found.append(last)
                    if len(found) == limit:
                        break
            cursor = None if last is None or last is candidates[-1] else last.job.id
            return Page([row.summary() for row in found], cursor)

    async def count(self, filter: JobFilter, *, limit: int = COUNT_LIMIT) -> int | None:
        wanted, after = await near_parent(self, filter)
        with self._transaction() as store:
            found = 0
            for read, row in enumerate(_matching(store, wanted, after)):
                if filter.searches and read == SEARCHED:
                    return None
                found += _is_found(row, filter)
                if found > limit:
                    return None
            return found


def _matching(store: Store, filter: JobFilter, after: UUID | None) -> Iterator[Row]:
    """Return the jobs older than `after` that match the conditions that need no search."""
    now = store.clock.now()
    since, until = to_moment(filter.since, now), to_moment(filter.until, now)
    return (
        row
        for row in store.jobs.values()
        if (after is None or row.job.id < after)
        and (filter.queue is None or row.queue.name == filter.queue)
        and (not filter.states or row.state in filter.states)
        and (not filter.kinds or row.job.kind in filter.kinds)
        and (filter.run_id is None or row.job.run_id == filter.run_id)
        and (since is None or row.created_at >= since)
        and (until is None or row.created_at < until)
        and all(tag in row.job.tags for tag in filter.tags)
    )


def _is_found(row: Row, filter: JobFilter) -> bool:
    """Return whether a job matches the conditions of a search; without any, all do."""
    if filter.worker is not None and row.worker != filter.worker:
        return False
    if filter.parent is not None and mark_of(filter.parent) not in (row.job.meta or b""):
        return False
    if not has_error(row.error, filter):
        return False
    return filter.argument is None or has_argument(row.job.arguments, row.job.meta, *filter.argument)
