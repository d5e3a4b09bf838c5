"""Removing jobs with all that belongs to them."""

from __future__ import annotations

from collections.abc import Sequence

from jobq_core.states import FINISHED, JobState
from jobq_core.storage import FINISHED_TOPIC, REQUEST_TOPIC
from jobq_storage_sqlite.columns import to_array
from jobq_storage_sqlite.transaction import Transaction


def remove(transaction: Transaction, numbers: Sequence[int]) -> None:
    """Delete jobs, with their history, their logs and their unique keys. The ends of followed ones are kept."""
    if not numbers:
        return
    array = to_array(numbers)
    unfinished = False
    for queue, state, kind, jobs in transaction.all("count_removed", numbers=array):
        if state in FINISHED:
            transaction.tally.left.append((queue, state, kind, jobs))
        else:
            unfinished = True
        if state == JobState.PROCESSING:
            transaction.topics.add(REQUEST_TOPIC)
    if unfinished:
        transaction.run("end_removed", numbers=array, now=transaction.now)
        transaction.run("free_removed_keys", numbers=array)
    for name in ("delete_attempts", "delete_logs", "delete_lives", "delete_jobs"):
        transaction.run(name, numbers=array)
    transaction.topics.add(FINISHED_TOPIC)
