"""Batch handlers: the jobs are made one by one, and their results have the declared type."""

from __future__ import annotations

from typing import assert_type

from jobq_client import JobQueueClient
from jobq_core import BatchError, Job, JobContext, job
from jobq_worker import JobQueueWorker


@job(batch=100, wait=0.2)
class Email(Job[str]):
    to: str

    @classmethod
    async def execute(cls, jobs: list[Email], contexts: list[JobContext]) -> list[str]:
        if contexts[0].aborted:
            raise BatchError({0: ValueError("aborted")}, [each.to for each in jobs])
        return [each.to for each in jobs]


@job(batch=10)
class Contract(Job[int]):
    number: int


worker = JobQueueWorker("memory://", jobs=[Email])


@worker.handles(Contract)
def double(jobs: list[Contract]) -> list[int]:
    return [2 * each.number for each in jobs]


async def use(client: JobQueueClient) -> None:
    handle = await client.add(Email(to="ann"), delay=5)
    assert_type(await handle.result(), str)
    Email(7)  # E: the argument is text


@job(batch="many")  # E: a number of jobs
class Wrong(Job[None]):
    number: int
