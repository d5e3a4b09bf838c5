"""The common part of all schemas to migrate: the start, the inspection, and the proof that jobs run afterwards."""

from __future__ import annotations

import abc
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Literal

from jobq_core.records import JobRecord
from jobq_core.states import FINISHED, Ending, JobState
from jobq_core.storage import Claim, JobFilter, QueueStorage, Settlement
from jobq_core.testing.helpers import add_job, job_in, register_worker

from .place import Fault, Kind

Act = Literal["pre", "post", "all", "open"]
"""A phase to migrate; or the opening of the storage, which may migrate."""

OLDER = {"before": 0, "pre": 1}
"""The older schemas with jobs in them, and the number of the test's own migrations that each one has."""


class Schema(abc.ABC):
    """An empty database or an older schema with jobs in it, to be migrated while statements fail.

    The test adds two migrations after those that make the tables: a 'pre' one and a 'post' one.
    """

    name: ClassVar[str]
    kinds: ClassVar[tuple[tuple[Kind, ...], ...]]
    cases: ClassVar[tuple[tuple[str, Act], ...]]
    """Pairs of the initial schema and the action."""

    def __init__(self) -> None:
        self.kept: dict[str, list[JobRecord]] = {"nothing": []}
        """The jobs before the migration, by initial schema."""

    @abc.abstractmethod
    async def prepare(self) -> None:
        """Make the initial schemas."""

    @abc.abstractmethod
    def knowing(self, more: int) -> Any:
        """Return a context manager in which the code knows `more` of the test's own migrations."""

    @abc.abstractmethod
    async def start(self, start: str) -> None:
        """Restore the initial schema, and remove everything else."""

    @abc.abstractmethod
    def storage(self) -> QueueStorage:
        """Return a storage without faults, not open."""

    @abc.abstractmethod
    def faulty(self, fault: Fault) -> AbstractAsyncContextManager[QueueStorage]:
        """Return a storage with the fault injected, not open."""

    @abc.abstractmethod
    async def catalog(self) -> list[str]:
        """Return the schema as the database describes it, one object per line, without invalid indexes."""

    @abc.abstractmethod
    async def applied(self) -> list[str]:
        """Return the names of the migrations recorded in the database, in order."""

    @abc.abstractmethod
    async def nothing_is_open(self) -> None:
        """Fail if any transaction is open."""


async def act_on(storage: QueueStorage, act: Act) -> list[str] | None:
    """Perform the action; return the applied migrations if the action reports them."""
    if act != "open":
        return await storage.migrate(act)
    await storage.open()
    await storage.close()
    return None


async def fill(storage: QueueStorage) -> list[JobRecord]:
    """Add jobs in all states to a schema, and return them; except PROCESSING, which ends by itself."""
    async with storage:
        worker = await register_worker(storage)
        for state in (*FINISHED, JobState.DISABLED, JobState.BLOCKED, JobState.SCHEDULED, JobState.PENDING):
            await job_in(storage, worker, state)
        await add_job(storage, unique_key="held")
        return await records(storage)


async def records(storage: QueueStorage) -> list[JobRecord]:
    """Return all jobs."""
    return (await storage.find(JobFilter(), limit=1000)).jobs


async def jobs_run(storage: QueueStorage, before: list[JobRecord]) -> dict[str, int]:
    """Check that no job is lost, and that old and new jobs run and are settled; return the figures for the report."""
    async with storage:
        there = await records(storage)
        lost = {record.id for record in before} - {record.id for record in there}
        assert not lost
        assert there == before
        new = {await add_job(storage), await add_job(storage, unique_key="new")}
        worker = await register_worker(storage)
        kinds = tuple((kind, "a declaration") for kind in worker.kinds)  # so that it frees the blocked job
        claim = Claim.of(*worker.queues, limit=100, kinds=kinds)
        claimed = (await storage.settle_and_claim(worker.id, (), claim)).claimed
        assert {job.id for job in claimed} - {record.id for record in before} == new
        settled = await storage.settle_and_claim(
            worker.id, [Settlement(job.id, job.lease, Ending.COMPLETE) for job in claimed]
        )
        assert settled.settled == [JobState.COMPLETED] * len(claimed)
        left = {record.state for record in await records(storage)} - FINISHED
        assert left <= {JobState.SCHEDULED, JobState.DISABLED}
        return {"added": len(before) + len(new), "runs": len(claimed), "lost": len(lost)}
