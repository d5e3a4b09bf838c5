"""The facet of producers: adding jobs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from jobq_core.storage import Added, NewJob, ProducerStorage
from jobq_storage_sqlite.adding_steps import steps_of_adding
from jobq_storage_sqlite.caller_connection import add_within
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.transaction import Transaction


class Adding(StorageOnFile, ProducerStorage):
    """Adds through the writer, or on a caller's own connection."""

    async def add(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Added]:
        if connection is not None:
            self._file()
            return await add_within(connection, self.path, self._moment, jobs)
        return await self._write(partial(add, jobs=jobs)) if jobs else []


def add(transaction: Transaction, jobs: Sequence[NewJob]) -> list[Added]:
    """Store jobs."""
    first = transaction.numbers(len(jobs))
    return transaction.carry_out(steps_of_adding(jobs, first, transaction.now, transaction.topics, transaction.spans))
