"""What a worker logs of its jobs, its stop and its queues, and the fields of the records."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from jobq_core import Backoff, JobAborted, JobAborting, JobCompleted, JobFailed, RetryPolicy, StatsUpdated, job

from .kit import Endings, Stage, add, ending, until, working
from .probe import Probe


@job()
async def quick() -> None: ...


@job(max_attempts=2, retry=RetryPolicy(backoff=Backoff(base=0)))
async def broken() -> None:
    raise ValueError("no such file")


def found(caplog: pytest.LogCaptureFixture, words: str) -> list[Any]:
    return [record for record in caplog.records if words in record.getMessage()]


async def test_each_start_and_end_of_a_job_is_a_line_at_debug(storage: Probe, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "jobq.worker")
    async with working(storage, quick) as worker:
        event = await ending(worker, storage, quick())
        assert isinstance(event, JobCompleted)
        [started] = found(caplog, "started, attempt 1")
        [ended] = found(caplog, "ended after")
    for record in (started, ended):
        assert record.levelno == logging.DEBUG
        assert (record.job_id, record.kind, record.queue, record.attempt) == (str(event.job_id), "quick", "default", 1)


async def test_retries_and_failures_are_logged_with_the_traceback(
    storage: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    async with working(storage, broken) as worker:
        endings = Endings(worker)
        job_id = await add(storage, broken(), max_attempts=2)
        assert isinstance(await endings.of(job_id, 2), JobFailed)
    [retried] = found(caplog, "will run again after attempt 1 of 2: ValueError: no such file")
    [failed] = found(caplog, "failed after attempt 2 of 2: ValueError: no such file")
    assert (retried.levelno, failed.levelno) == (logging.WARNING, logging.ERROR)
    for record in (retried, failed):
        assert 'raise ValueError("no such file")' in record.getMessage()
        assert record.job_id == str(job_id)


async def test_a_draining_worker_says_what_it_waits_for_and_for_how_long(
    storage: Probe, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    @job()
    async def gated() -> None:
        stage.reach("started")
        await stage.reached("go on")

    caplog.set_level(logging.INFO, "jobq.worker")
    async with working(storage, gated, name="w1") as worker:
        await add(storage, gated())
        await stage.reached("started")
        stopping = asyncio.ensure_future(worker.stop(45))
        await asyncio.sleep(0)
        [line] = found(caplog, "is draining")
        assert line.getMessage() == (
            f"worker w1 ({worker.id}) is draining: it claims no more jobs and waits up to 45 s for 1 running job; "
            "a second signal or stop(0) stops it immediately"
        )
        stage.reach("go on")
        await stopping


@job(queue="mail")
async def send() -> None: ...


@pytest.mark.parametrize(
    ("jobs", "queues", "warned"),
    [
        ([send], ["mial"], ["mial"]),
        ([send], ["mail", "images"], ["images"]),
        ([send], ["mail"], []),
        ([send], None, []),
        ([send, quick], ["images"], []),  # quick declares no queue: clients add it wherever they like
    ],
)
async def test_a_queue_that_no_job_declares_is_warned_of(
    storage: Probe, caplog: pytest.LogCaptureFixture, jobs: list[Any], queues: list[str] | None, warned: list[str]
) -> None:
    async with working(storage, *jobs, queues=queues):
        pass
    records = found(caplog, "is the name right?")
    assert [record.queue for record in records] == warned
    assert all("its jobs declare 'mail'" in record.getMessage() for record in records)


async def test_an_abort_of_a_running_job_is_an_event_before_its_end(storage: Probe, stage: Stage) -> None:
    @job()
    async def stubborn() -> None:
        stage.reach("started")
        try:
            await asyncio.Event().wait()
        finally:
            await stage.reached("go on")

    async with working(storage, stubborn) as worker:
        seen: list[str] = []
        for kind in (JobAborting, JobAborted):
            worker.on(kind, lambda event: seen.append(type(event).__name__))
        endings = Endings(worker)
        aborting = worker.next_event(JobAborting)
        job_id = await add(storage, stubborn())
        await stage.reached("started")
        await storage.abort([job_id])
        event = await aborting
        assert (event.job_id, event.kind, event.attempt, event.worker) == (job_id, "stubborn", 1, worker.id)
        assert seen == ["JobAborting"]
        stage.reach("go on")
        assert isinstance(await endings.of(job_id), JobAborted)
        assert seen == ["JobAborting", "JobAborted"]


async def test_the_statistics_are_sent_with_each_heartbeat(storage: Probe) -> None:
    async with working(storage, quick, heartbeat_interval=0.01, lost_after=30, name="w1") as worker:
        await ending(worker, storage, quick())
        updates: list[StatsUpdated] = []
        worker.on(StatsUpdated, updates.append)
        await until(lambda: len(updates) >= 2)
        assert (updates[0].worker, updates[0].name, updates[0].stats.completed) == (worker.id, "w1", 1)
