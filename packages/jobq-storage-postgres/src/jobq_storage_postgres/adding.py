"""The producers' facet of the storage: adding jobs."""

from __future__ import annotations

import logging
import select
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from jobq_core.errors import ClosedError, StorageError
from jobq_core.storage import Added, NewJob, ProducerStorage
from jobq_storage_postgres.adding_programs import add_alone, add_with_free_key, has_unique
from jobq_storage_postgres.engine import Facet
from jobq_storage_postgres.programs import drive
from jobq_storage_postgres.riding import Ride
from jobq_storage_postgres.sync_producer import PostgresSyncProducer
from jobq_storage_postgres.topics import topics_of
from jobq_storage_postgres.unique_keys import RESTARTS, add_unique

_log = logging.getLogger("jobq.postgres")

BULK: Final = 10_000
"""Number of jobs in one `add` from which on the planner's statistics are updated (ANALYZE)."""


class Adding(Facet, ProducerStorage):
    """Adds jobs: one by one, in bulk, with unique keys, or in a transaction of the caller.

    `connection` of `add` leads to the same database.
    """

    async def add(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Added]:
        engine = self._engine
        engine.pool.check_open()
        if connection is not None:
            return await engine.caller_connections.add(connection, jobs)
        if not jobs:
            return []
        await engine.lines.ensure(jobs)
        ride: Ride | None = None
        if has_unique(jobs):
            added = await self._add_unique(jobs)
        else:
            ride = Ride(engine.notifier, topics_of(jobs))
            run = partial(engine.database.fetch_all, rider=ride.rider)
            added = await drive(add_alone(engine.statements, jobs), run)
        made = [job for job, answer in zip(jobs, added, strict=True) if answer.created]
        if made:
            if ride is None:
                engine.notifier.notify(topics_of(made))
            else:
                ride.committed()
            await engine.notifier.wait_sent()
            if len(made) >= BULK:
                await self._analyze()
        return added

    def sync_producer(self) -> PostgresSyncProducer | None:
        self._engine.pool.check_open()
        # Windows and eventlet have no poll.
        return PostgresSyncProducer(self._engine) if hasattr(select, "poll") else None

    async def _add_unique(self, jobs: Sequence[NewJob]) -> list[Added]:
        engine = self._engine
        added = await drive(add_with_free_key(engine.statements, jobs), engine.database.fetch_all)
        if added is None:
            added = await engine.database.transact(
                lambda transaction: drive(
                    add_unique(engine.statements, jobs, may_start_over=transaction.restarts < RESTARTS), transaction.run
                )
            )
        return added

    async def _analyze(self) -> None:
        try:
            await self._engine.fetch("analyze")
        except (StorageError, ClosedError) as error:
            # The jobs are stored and acknowledged. Autovacuum updates the statistics later.
            _log.warning("could not update the planner's statistics after adding many jobs: %s", error)
