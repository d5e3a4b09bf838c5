"""Jobs that a handler adds: they exist exactly if its job has completed; and the headers that they inherit."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from jobq_core import (
    Backoff,
    ClosedError,
    JobAborted,
    JobCompleted,
    JobContext,
    JobFailed,
    JobRetried,
    JobState,
    PermanentJobError,
    RetryPolicy,
    job,
)
from jobq_core.clock_offset import MEASURE_SECONDS, ClockOffset
from jobq_core.storage import JobFilter
from jobq_worker.liveness.clock_loop import ClockLoop
from jobq_worker.outages import Outages

from .kit import Endings, Stage, add, ending, record, working
from .probe import Probe

AT_ONCE = RetryPolicy(backoff=Backoff(base=0))


@job
async def child(n: int = 0) -> None: ...


@pytest.fixture(params=["async", "thread"])
def nature(request: pytest.FixtureRequest) -> Any:
    return request.param


def made(nature: str, body: Any, **options: Any) -> Any:
    """Declare a job named 'parent' whose body is `body(context)`, run as this nature runs it."""
    if nature == "thread":

        def parent(context: JobContext) -> Any:
            return body(context)

        return job(**options)(parent)

    async def parent_async(context: JobContext) -> Any:
        return body(context)

    return job(name="parent", **options)(parent_async)


async def children(storage: Probe) -> list[UUID]:
    found = (await storage.find(JobFilter())).jobs
    return [job.id for job in found if job.kind == "child"]


async def test_children_exist_when_their_parent_has_completed(storage: Probe, nature: str) -> None:
    seen: list[UUID] = []

    def body(context: JobContext) -> str:
        seen.append(context.add(child(1)).id)
        seen.append(context.add(child(2), queue="else", priority=7, delay=600).id)
        return "done"

    async with working(storage, made(nature, body), child, queues=["default"]) as worker:
        endings = Endings(worker)
        parent = await add(storage, made(nature, body)(), headers={"tenant": "7"}, run_id="nightly")
        assert isinstance(await endings.of(parent), JobCompleted)
        assert isinstance(await endings.of(seen[0]), JobCompleted)
        later = await record(storage, seen[1])
        assert (later.state, later.queue, later.priority, later.run_id) == (JobState.SCHEDULED, "else", 7, "nightly")
        assert [(await record(storage, one)).meta for one in seen] == [{"tenant": "7"}] * 2
        assert [(await record(storage, one)).parent for one in seen] == [parent] * 2
        found = await storage.find(JobFilter(parent=parent))
        assert [each.id for each in found.jobs] == seen[::-1]
    [settlement] = storage.settlements_of(parent)
    assert [job.id for job in settlement.jobs] == seen


@pytest.mark.parametrize(
    ("error", "event"),
    [(PermanentJobError("no"), JobFailed), (RuntimeError("later"), JobRetried)],
    ids=["failed", "retried"],
)
async def test_a_run_that_does_not_complete_adds_nothing(
    storage: Probe, nature: str, error: Exception, event: type
) -> None:
    def body(context: JobContext) -> None:
        context.add(child(1))
        raise error

    async with working(storage, made(nature, body)) as worker:
        assert isinstance(await ending(worker, storage, made(nature, body)()), event)
        assert await children(storage) == []


async def test_only_the_run_that_completes_adds(storage: Probe, nature: str) -> None:
    def body(context: JobContext) -> None:
        context.add(child(context.attempt), delay=600)
        if context.attempt == 1:
            raise RuntimeError("later")

    parent = made(nature, body, retry=AT_ONCE)
    async with working(storage, parent) as worker:
        endings = Endings(worker)
        job_id = await add(storage, parent())
        assert isinstance(await endings.of(job_id, 2), JobCompleted)
    [added] = await children(storage)
    assert (await record(storage, added)).arguments == {"n": 2}


async def test_a_result_that_cannot_be_stored_adds_nothing(storage: Probe, nature: str) -> None:
    def body(context: JobContext) -> object:
        context.add(child(1))
        return object()

    async with working(storage, made(nature, body)) as worker:
        assert isinstance(await ending(worker, storage, made(nature, body)()), JobFailed)
        assert await children(storage) == []


async def test_an_aborted_run_adds_nothing(storage: Probe, stage: Stage) -> None:
    @job
    def parent(context: JobContext) -> None:
        context.add(child(1))
        stage.reach("added")
        while not context.wait_aborted(30):
            pass

    async with working(storage, parent) as worker:
        endings = Endings(worker)
        job_id = await add(storage, parent())
        await stage.reached("added")
        await storage.abort([job_id])
        assert isinstance(await endings.of(job_id), JobAborted)
        assert await children(storage) == []


async def test_what_a_task_adds_after_the_end_of_its_handler_is_refused(storage: Probe, stage: Stage) -> None:
    gate, errors = asyncio.Event(), []
    tasks: list[asyncio.Task[None]] = []

    @job
    async def parent(context: JobContext) -> None:
        async def late() -> None:
            await gate.wait()
            try:
                context.add(child(1))
            except ClosedError as error:
                errors.append(error)
            stage.reach("late")

        tasks.append(asyncio.create_task(late()))

    async with working(storage, parent) as worker:
        assert isinstance(await ending(worker, storage, parent()), JobCompleted)
        gate.set()
        await stage.reached("late")
        assert "has ended" in str(errors)
        assert await children(storage) == []


async def test_a_lost_answer_stores_children_once(storage: Probe) -> None:
    @job
    async def parent(context: JobContext) -> None:
        context.add(child(1), delay=600)
        storage.fail("settle_and_claim", after=True)

    async with working(storage, parent) as worker:
        job_id = await add(storage, parent())
        assert isinstance(await Endings(worker).of(job_id), JobCompleted)
        assert len(storage.settlements_of(job_id)) == 2
        assert len(await children(storage)) == 1


async def test_children_get_ids_of_the_storages_time() -> None:
    class Ahead(Probe):
        async def now(self) -> Any:
            return await super().now() + timedelta(hours=3)

    @job
    async def parent(context: JobContext) -> None:
        context.add(child(1), delay=600)

    async with Ahead() as storage, working(storage, parent) as worker:
        await Endings(worker).of(await add(storage, parent()))
        (added,) = await children(storage)
        assert abs((added.int >> 80) / 1000 - (await storage.now()).timestamp()) < 60


async def test_the_clock_is_measured_again_when_that_is_due(storage: Probe) -> None:
    clock_offset = ClockOffset(storage)
    loop = ClockLoop(clock_offset, Outages("worker"))
    before = clock_offset.measured
    assert 0 < await loop._work(False) <= MEASURE_SECONDS
    measured = clock_offset.measured
    assert measured is not before
    assert 0 < await loop._work(False) <= MEASURE_SECONDS
    assert clock_offset.measured is measured
    clock_offset.postpone(0.0)
    await loop._work(False)
    assert clock_offset.measured is not measured
