"""The children of one job: what commands, pages and assistants show of them."""

from __future__ import annotations

from typing import Final

from jobq_core.parents import may_have_children
from jobq_core.records import JobRecord
from jobq_core.storage import JobFilter, Page, QueueStorage

SHOWN: Final = 20
"""The number of children that are shown with a job."""


async def children_of(storage: QueueStorage, record: JobRecord, *, limit: int = SHOWN) -> Page:
    """Return the newest jobs that a job added, or that follow it, as `find` does; an empty page for a job that cannot
    have any, without a search."""
    if not may_have_children(record):
        return Page([], None)
    return await storage.find(JobFilter(parent=record.id), limit=limit)
