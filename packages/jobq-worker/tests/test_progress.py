"""The last progress that a run reported is stored with its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from uuid import UUID

import pytest

from jobq_core import InvalidJobError, JobCompleted, JobContext, JobFailed, JobProgressed, job
from jobq_core.records import Progress
from jobq_core.storage import ProgressReport
from jobq_worker.running import progress

from .kit import Stage, add, add_many, ending, until, working
from .probe import Probe


@job(max_attempts=1)
async def report(context: JobContext, fails: bool = False) -> None:
    context.progress(50, "half")
    context.progress(100, "done")
    if fails:
        raise ValueError("no")


@job(max_attempts=1)
def report_in_thread(context: JobContext) -> None:
    context.progress(100, "done")


@pytest.mark.parametrize("made", [report(), report(fails=True), report_in_thread()])
async def test_what_was_reported_last_is_settled_with_the_run(storage: Probe, made: object) -> None:
    storage.fail("progress", 1000)  # what is written beside the runs comes too late here
    async with working(storage, report, report_in_thread) as worker:
        seen = worker.events(JobProgressed)
        event = await ending(worker, storage, made)
        [settlement] = storage.settlements_of(event.job_id)
        assert settlement.progress == Progress(percent=100.0, message="done")
        assert (await anext(seen)).progress == settlement.progress


async def test_what_is_stored_already_is_not_settled_again(storage: Probe, stage: Stage) -> None:
    @job()
    async def slow(context: JobContext) -> None:
        context.progress(50)
        await stage.reached("go on")

    async with working(storage, slow) as worker:
        job_id = await add(storage, slow())
        await worker.next_event(JobProgressed)
        stage.reach("go on")
        await until(lambda: storage.settlements_of(job_id))
    [settlement] = storage.settlements_of(job_id)
    assert settlement.progress is None


async def test_reports_are_written_in_calls_of_bounded_size(
    storage: Probe, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "BATCH_BYTES", 100_000)

    @job()
    async def large(context: JobContext) -> None:
        context.progress(50, "x" * 60_000)
        await stage.reached("go on")

    async with working(storage, large, concurrency=5) as worker:
        await add_many(storage, [large() for _ in range(5)])
        await until(lambda: sum(len(args[1]) for args in storage.arguments["progress"]) >= 5)
        stage.reach("go on")
        await until(lambda: worker.pool_stats().total.completed == 5)
    assert {len(args[1]) for args in storage.arguments["progress"]} == {1}


class Distant(Probe):
    """A storage whose answers to reports take a while."""

    async def progress(self, worker: UUID, reports: Sequence[ProgressReport]) -> list[bool]:
        await asyncio.sleep(0.005)
        held: list[bool] = await super().progress(worker, reports)
        return held


async def test_a_thread_that_reports_without_a_pause_costs_at_most_ten_calls_a_second() -> None:
    @job()
    def restless(context: JobContext) -> None:
        ends = time.monotonic() + 0.5
        while time.monotonic() < ends:
            context.progress(50)

    async with Distant() as storage, working(storage, restless) as worker:
        assert isinstance(await ending(worker, storage, restless()), JobCompleted)
        assert 1 <= storage.calls["progress"] <= 8


async def test_a_message_that_is_too_large_is_refused_where_it_is_reported(storage: Probe) -> None:
    refused: list[str] = []

    @job(max_attempts=1)
    async def talkative(context: JobContext) -> None:
        context.progress(1, "x" * 64 * 1024)
        try:
            context.progress(2, "ü" * 40_000)
        except InvalidJobError as error:
            refused.append(str(error))
            raise

    async with working(storage, talkative) as worker:
        assert isinstance(await ending(worker, storage, talkative()), JobFailed)
    assert refused == ["a progress message must have at most 64 KiB of UTF-8"]
