"""Failed jobs grouped by their error: what `jobq failed` and the dashboard show."""

from __future__ import annotations

import re
from datetime import datetime
from hashlib import sha256
from typing import Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from jobq_core.records import ErrorRecord, JobSummary
from jobq_core.states import JobState
from jobq_core.storage import JobFilter, QueueStorage

NEWEST: Final = 1_000
"""The number of failed jobs that are grouped, newest first."""
_PAGE: Final = 1_000

_VARIES: Final = re.compile(
    r"""
    [0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}  # a UUID
    | \b0x[0-9a-f]+ | \b(?=[a-f]*\d)[0-9a-f]{12,}\b  # an address, a hash
    | (?<!\w)'[^']{1,1000}'(?!\w) | "[^"]{1,1000}"  # an apostrophe within a word quotes nothing
    | \d+(?:[.,:]\d+)*
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""What differs between messages of one cause."""


class FailureGroup(Struct, frozen=True, kw_only=True):
    """Failed jobs of one queue and kind whose errors are alike.

    fingerprint: equal for errors of one kind and type whose messages differ in numbers, ids and quoted text only.
    message: that of the newest job. first, last: when the first and the last of these jobs failed, of those looked at.
    """

    fingerprint: str
    kind: str
    queue: str
    type: str
    message: str
    jobs: int
    first: datetime | None
    last: datetime | None
    newest_job: UUID


def fingerprint(kind: str, error: ErrorRecord | None) -> str:
    """Return 12 hexadecimal digits that stand for a kind of job and the cause of its error."""
    pattern = "" if error is None else f"{error.type}\0{_VARIES.sub('…', error.message[:2000])}"
    return sha256(f"{kind}\0{pattern}".encode("utf-8", "replace")).hexdigest()[:12]


async def failures(storage: QueueStorage, *, queue: str | None = None, newest: int = NEWEST) -> list[FailureGroup]:
    """Return the groups of the newest failed jobs, the largest group first.

    queue: of this queue (default: of all). newest: the number of failed jobs to look at.
    """
    groups: dict[tuple[str, str], FailureGroup] = {}
    wanted = JobFilter(queue=queue, states=[JobState.FAILED])
    after, left = None, newest
    while left > 0:
        page = await storage.find(wanted, after=after, limit=min(left, _PAGE))
        for job in page.jobs:
            key = (job.queue, fingerprint(job.kind, job.error))
            groups[key] = _add(groups.get(key), key[1], job)
        after, left = page.cursor, left - len(page.jobs)
        if after is None:
            break
    return sorted(groups.values(), key=lambda group: (-group.jobs, group.kind))


def _add(group: FailureGroup | None, fingerprint: str, job: JobSummary) -> FailureGroup:
    at = job.finished_at
    if group is None:
        return FailureGroup(
            fingerprint=fingerprint,
            kind=job.kind,
            queue=job.queue,
            type=job.error.type if job.error else "",
            message=job.error.message if job.error else "",
            jobs=1,
            first=at,
            last=at,
            newest_job=job.id,
        )
    moments = [moment for moment in (group.first, group.last, at) if moment is not None]
    return replace(group, jobs=group.jobs + 1, first=min(moments, default=None), last=max(moments, default=None))
