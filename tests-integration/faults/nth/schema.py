"""What is alike wherever a schema is migrated: where it starts from, how it is looked at, and that jobs run in it."""

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
"""A phase to migrate, or opening the storage, which may migrate."""

OLDER = {"before": 0, "pre": 1}
"""What a schema with jobs in it is migrated from, and how many of the test's own migrations it has."""


class Schema(abc.ABC):
    """An empty database or an older schema with jobs in it, to be migrated while statements fail.

    There are two migrations of the test's own after those that make the tables, a 'pre' one and a 'post' one.
    """

    name: ClassVar[str]
    kinds: ClassVar[tuple[tuple[Kind, ...], ...]]
    cases: ClassVar[tuple[tuple[str, Act], ...]]
    """What is started from, and what is done."""

    def __init__(self) -> None:
        self.kept: dict[str, list[JobRecord]] = {"nothing": []}
        """The jobs that were there before, by what is started from."""

    @abc.abstractmethod
    async def prepare(self) -> None:
        """Make what is started from."""

    @abc.abstractmethod
    def knowing(self, more: int) -> Any:
        """Return a context manager in which the code knows so many migrations of the test's own."""

    @abc.abstractmethod
    async def start(self, start: str) -> None:
        """Let there be what is started from, and nothing else."""

    @abc.abstractmethod
    def storage(self) -> QueueStorage:
        """Return a storage that nothing befalls, not open."""

    @abc.abstractmethod
    def befallen(self, fault: Fault) -> AbstractAsyncContextManager[QueueStorage]:
        """Return a storage that the fault may befall, not open."""

    @abc.abstractmethod
    async def catalog(self) -> list[str]:
        """Return all that the database knows of the schema, a line each; indexes that are not valid are none."""

    @abc.abstractmethod
    async def applied(self) -> list[str]:
        """Return the names of the migrations that the database says it has, in order."""

    @abc.abstractmethod
    async def nothing_is_open(self) -> None:
        """Fail unless all transactions are over."""


async def act_on(storage: QueueStorage, act: Act) -> list[str] | None:
    """Do what is to be done; return the migrations applied, where that is told."""
    if act != "open":
        return await storage.migrate(act)
    await storage.open()
    await storage.close()
    return None


async def fill(storage: QueueStorage) -> list[JobRecord]:
    """Put jobs in all states but one into a schema, and return them; none is PROCESSING, since that ends by itself."""
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
    """See that no job is lost, and that old and new ones run and are settled; return the figures for the report."""
    async with storage:
        there = await records(storage)
        lost = {record.id for record in before} - {record.id for record in there}
        assert not lost
        assert there == before
        new = {await add_job(storage), await add_job(storage, unique_key="new")}
        worker = await register_worker(storage)
        claimed = (await storage.settle_and_claim(worker.id, (), Claim(worker.queues, 100))).claimed
        assert {job.id for job in claimed} - {record.id for record in before} == new
        settled = await storage.settle_and_claim(
            worker.id, [Settlement(job.id, job.lease, Ending.COMPLETE) for job in claimed]
        )
        assert settled.settled == [JobState.COMPLETED] * len(claimed)
        left = {record.state for record in await records(storage)} - FINISHED
        assert left <= {JobState.SCHEDULED, JobState.DISABLED}
        return {"added": len(before) + len(new), "runs": len(claimed), "lost": len(lost)}
