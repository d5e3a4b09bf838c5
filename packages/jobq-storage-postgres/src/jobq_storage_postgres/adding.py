"""The producers' facet of the storage: adding jobs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from psycopg.errors import UniqueViolation

from jobq_core.errors import ClosedError, StorageError
from jobq_core.storage import Added, NewJob, ProducerStorage
from jobq_storage_postgres.columns import pack_job, pack_jobs
from jobq_storage_postgres.engine import Facet
from jobq_storage_postgres.riding import Ride
from jobq_storage_postgres.topics import topics_of
from jobq_storage_postgres.unique_keys import add_unique, answers

_log = logging.getLogger("jobq.postgres")

BULK: Final = 10_000
"""Number of jobs in one `add` from which on the planner's statistics are updated (ANALYZE)."""


class Adding(Facet, ProducerStorage):
    """Adds jobs: one by one, in bulk, with unique keys, or in a transaction of the caller.

    `connection` of `add` is a psycopg.AsyncConnection to the same database.
    """

    async def add(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Added]:
        engine = self._engine
        engine.pool.check_open()
        if connection is not None:
            return await engine.caller_connections.add(connection, jobs)
        if not jobs:
            return []
        if missing := engine.lines.missing(jobs):
            await engine.lines.register(missing)
        ride: Ride | None = None
        if any(job.unique_key is not None for job in jobs):
            added = await engine.database.transact(lambda session: add_unique(session, engine.statements, jobs))
        else:
            ride = Ride(engine.notifier, topics_of(jobs))
            added = await (self._add_one(jobs[0], ride) if _is_plain(jobs) else self._add_group(jobs, ride))
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

    async def _add_one(self, job: NewJob, ride: Ride) -> list[Added]:
        try:
            await self._engine.fetch_with(ride.rider, "add_one", pack_job(job))
        except StorageError as error:
            if not isinstance(error.__cause__, UniqueViolation):
                raise
            return await self._add_group([job], ride)
        return [Added(job.id, True)]

    async def _add_group(self, jobs: Sequence[NewJob], ride: Ride) -> list[Added]:
        (row,) = await self._engine.fetch_with(ride.rider, "add", pack_jobs(jobs))
        return answers(jobs, row)

    async def _analyze(self) -> None:
        try:
            await self._engine.fetch("analyze")
        except (StorageError, ClosedError) as error:
            # The jobs are stored and acknowledged. Autovacuum updates the statistics later.
            _log.warning("could not update the planner's statistics after adding many jobs: %s", error)


def _is_plain(jobs: Sequence[NewJob]) -> bool:
    """Return whether this is one job for `add_one`; it has no unique key."""
    first = jobs[0]
    if len(jobs) > 1 or first.run_at is not None or first.tags or first.gated or first.followed:
        return False
    return first.deadline is None or isinstance(first.deadline, datetime)
