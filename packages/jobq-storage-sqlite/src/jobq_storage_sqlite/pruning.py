"""Pruning: finished jobs whose retention is over, and what belongs to jobs that are gone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from jobq_core.storage import AUDIT_DAYS, REQUEST_SECONDS, Retention
from jobq_core.timestamps import SECOND
from jobq_storage_sqlite.columns import to_id
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.queue_options import spans_of
from jobq_storage_sqlite.removing import remove
from jobq_storage_sqlite.slices import in_slices
from jobq_storage_sqlite.spans import span_of
from jobq_storage_sqlite.statistics import prune_statistics, sum_up
from jobq_storage_sqlite.transaction import Transaction

ROWS: Final = 500
"""How many old rows of a table, that is not of jobs, a slice deletes at most."""


async def prune(storage: StorageOnFile, limit: int) -> int:
    """Delete finished jobs, in slices; return their number. Sum up statistics before old ones are deleted."""
    await sum_up(storage)
    now = storage._moment().now
    completed, failed, aborted = spans_of(Retention())
    # Looked for by the reader, which keeps nobody from writing.
    prunable = await storage._read("find_prunable", now=now, completed=completed, failed=failed, aborted=aborted)
    return await in_slices(storage._write, partial(prune_some, prunable=prunable), limit)


def prune_some(transaction: Transaction, prunable: Sequence[tuple[str, str, int]], size: int) -> int:
    """Delete up to `size` finished jobs of queues and states that ended until their times; return their number."""
    numbers: list[int] = []
    for queue, state, ended in prunable:
        if len(numbers) < size:
            rows = transaction.all("find_finished", queue, state, ended, size - len(numbers))
            numbers += [n for (n,) in rows]
    remove(transaction, numbers)
    prune_statistics(transaction, ROWS)
    for name, seconds in (
        ("delete_audit", AUDIT_DAYS * 86_400),
        ("delete_operations", AUDIT_DAYS * 86_400),
        ("delete_requests", REQUEST_SECONDS),
    ):
        transaction.run(name, transaction.now - round(seconds * SECOND), ROWS)
    _prune_spans(transaction)
    return len(numbers)


def _prune_spans(transaction: Transaction) -> None:
    """Delete some spans without jobs."""
    (oldest,) = transaction.one("oldest_job")
    if oldest is not None and transaction.run("delete_spans", span_of(to_id(oldest)), 1000).rowcount:
        transaction.run("count_pruning")
        transaction.stored_spans.forget()
