"""What the operator's commands and the dashboard share: entries of the audit, filters in them, and the known queues."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from attrs import evolve

from jobq_core.ids import new_id
from jobq_core.masking import MASK
from jobq_core.storage import COUNT_LIMIT, AuditEntry, JobFilter, QueueStorage


def audit_entries(actor: str, action: str, targets: Iterable[object], details: Any = None) -> list[AuditEntry]:
    """Return an entry for each target of what an operator did; the storage writes the time."""
    now = datetime.now(UTC)
    return [
        AuditEntry(id=new_id(), at=now, actor=actor, action=action, target=str(target), details=details)
        for target in targets
    ]


def without_payloads(wanted: JobFilter) -> JobFilter:
    """Return a filter without what it looks for in payloads: with the number of jobs found, it says what they hold."""
    argument = None if wanted.argument is None else (wanted.argument[0], MASK)
    return evolve(wanted, error=None if wanted.error is None else MASK, argument=argument)


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
