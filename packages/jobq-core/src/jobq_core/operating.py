"""What the operator's commands and the dashboard share: entries of the audit, and the queues that there are."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from jobq_core.ids import new_id
from jobq_core.storage import COUNT_LIMIT, AuditEntry, JobFilter, QueueStorage


def audit_entries(actor: str, action: str, targets: Iterable[object], details: Any = None) -> list[AuditEntry]:
    """Return an entry for each target of what an operator did; the storage writes the time."""
    now = datetime.now(UTC)
    return [
        AuditEntry(id=new_id(), at=now, actor=actor, action=action, target=str(target), details=details)
        for target in targets
    ]


async def known_queues(storage: QueueStorage) -> set[str]:
    """Return the queues that have jobs, options or a worker."""
    known = {depth.queue for depth in await storage.depths()}
    known |= {record.name for record in await storage.queues()}
    known |= {queue for worker in await storage.workers() for queue in worker.info.queues}
    return known


def shown_count(filter: JobFilter, matched: int | None) -> str:
    """Return what `count` answered about a filter, in words that 'jobs' may follow."""
    if matched is not None:
        return f"{matched:,}"
    is_counted = filter == JobFilter(queue=filter.queue, states=filter.states)
    return f"more than {COUNT_LIMIT:,}" if is_counted else "an unknown number of"
