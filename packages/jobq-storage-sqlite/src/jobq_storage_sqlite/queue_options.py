"""The options of queues: whether they are paused, and how long they keep finished jobs."""

from __future__ import annotations

from typing import Any

from jobq_core.storage import QueueOptions, QueueOwner, QueueRecord, Retention, queue_topic
from jobq_core.timestamps import SECOND, to_optional_datetime
from jobq_storage_sqlite.columns import text
from jobq_storage_sqlite.transaction import Transaction


def set_queue(transaction: Transaction, queue: str, options: QueueOptions, owner: QueueOwner) -> None:
    """Set the options that are not None. A worker does not pause, and does not replace an operator's retention."""
    if options.retention is not None:
        transaction.run("set_retention", queue, owner, *spans_of(options.retention))
    if options.paused is not None and owner == "operator":
        paused = (transaction.now, text(options.actor)) if options.paused else (None, None)
        transaction.run("pause", queue, *paused)
        if not options.paused:
            transaction.topics.add(queue_topic(queue))


def spans_of(retention: Retention) -> tuple[int | None, int | None, int | None]:
    """Return how long completed, failed and aborted jobs are kept, in microseconds."""
    return _span(retention.completed), _span(retention.failed), _span(retention.aborted)


def to_queue(row: Any) -> QueueRecord:
    """Return the queue of a row of queues."""
    name, paused_at, paused_by, owner, *spans = row
    completed, failed, aborted = (None if span is None else span / SECOND for span in spans)
    return QueueRecord(
        name=name,
        paused_at=to_optional_datetime(paused_at),
        paused_by=paused_by,
        retention=None if owner is None else Retention(completed=completed, failed=failed, aborted=aborted),
        owner=owner,
    )


def _span(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * SECOND)
