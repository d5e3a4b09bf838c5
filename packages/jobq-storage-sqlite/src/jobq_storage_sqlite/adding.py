"""The facet of producers: adding jobs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from jobq_core.storage import Added, NewJob, ProducerStorage, SyncProducer
from jobq_storage_sqlite.adding_steps import steps_of_adding
from jobq_storage_sqlite.caller_connection import add_within
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.transaction import Transaction
from jobq_storage_sqlite.writer import Writer


class Adding(StorageOnFile, ProducerStorage):
    """Adds through the writer, or on a caller's own connection."""

    async def add(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Added]:
        if not jobs:
            return []
        if connection is None:
            return await self._write(partial(add, jobs=jobs))
        self._file()
        return await add_within(connection, self.path, self._moment, jobs)

    def sync_producer(self) -> SqliteSyncProducer:
        return SqliteSyncProducer(self._file().writer)


class SqliteSyncProducer(SyncProducer):
    """Adds through the writer's thread, which other threads may call."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def add(self, jobs: Sequence[NewJob], *, timeout: float) -> list[Added]:
        return self._writer.call_blocking(partial(add, jobs=jobs), timeout)

    def close(self) -> None:
        """Do nothing: the connection is the storage's."""


def add(transaction: Transaction, jobs: Sequence[NewJob]) -> list[Added]:
    """Store jobs."""
    first = transaction.numbers(len(jobs))
    return transaction.carry_out(steps_of_adding(jobs, first, transaction.now, transaction.topics, transaction.spans))
