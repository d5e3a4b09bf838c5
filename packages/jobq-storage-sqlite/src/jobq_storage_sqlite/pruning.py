"""Pruning: finished jobs whose retention is over, and what belongs to jobs that are gone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from jobq_core.storage import Retention
from jobq_storage_sqlite.columns import to_id
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.queue_options import spans_of
from jobq_storage_sqlite.removing import remove
from jobq_storage_sqlite.slices import in_slices
from jobq_storage_sqlite.spans import span_of
from jobq_storage_sqlite.tally import MINUTE
from jobq_storage_sqlite.transaction import Transaction

KEPT_MINUTES: Final = 30 * 24 * 60
"""For how many minutes statistics are kept."""


async def prune(storage: StorageOnFile, limit: int) -> int:
    """Delete finished jobs, in slices; return their number."""
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
    _prune_statistics(transaction)
    return len(numbers)


def _prune_statistics(transaction: Transaction) -> None:
    """Delete old statistics, and some spans without jobs."""
    transaction.run("delete_tally", transaction.now // MINUTE - KEPT_MINUTES)
    (oldest,) = transaction.one("oldest_job")
    if oldest is not None and transaction.run("delete_spans", span_of(to_id(oldest)), 1000).rowcount:
        transaction.run("count_pruning")
        transaction.stored_spans.forget()
