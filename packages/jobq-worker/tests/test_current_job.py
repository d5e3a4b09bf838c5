"""`current_job`: the context of the running job, without passing it; and the log filter that uses it."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any
from uuid import UUID

import pytest

from jobq_core import ClosedError, JobCompleted, JobContext, current_job, job
from jobq_worker import JobLogFilter
from jobq_worker.logs import JsonFormatter

from .kit import Endings, Stage, add, add_many, ending, until, working
from .probe import Probe


def deep() -> JobContext:
    """Return the context, as code far below a handler does."""
    context = current_job()
    assert context is not None
    return context


@job
async def on_loop() -> list[str]:
    async def part() -> str:
        return str(deep().job_id)

    return [str(deep().job_id), *await asyncio.gather(part(), part()), str((await asyncio.to_thread(deep)).job_id)]


@job
def in_thread() -> list[str]:
    return [str(deep().job_id), str(deep().job_id)]


@pytest.mark.parametrize("declared", [on_loop, in_thread], ids=["async", "thread"])
async def test_each_run_sees_its_own_job(storage: Probe, declared: Any) -> None:
    async with working(storage, declared, concurrency=8) as worker:
        endings = Endings(worker)
        ids = await add_many(storage, [declared() for _ in range(20)])
        for ended in await endings.all(ids):
            assert isinstance(ended, JobCompleted)
            assert set(json.loads(ended.result_json)) == {str(ended.job_id)}
    assert current_job() is None


async def test_it_is_the_context_that_the_handler_gets(storage: Probe) -> None:
    @job
    async def check(context: JobContext) -> bool:
        return current_job() is context

    async with working(storage, check) as worker:
        assert (await ending(worker, storage, check())).result_json == b"true"  # type: ignore[union-attr]


async def test_it_adds_jobs_and_reports_progress(storage: Probe) -> None:
    children: list[UUID] = []

    @job
    async def parent(last: bool = False) -> None:
        if not last:
            deep().progress(50)
            children.append(deep().add(parent(last=True), headers={}).id)

    async with working(storage, parent) as worker:
        endings = Endings(worker)
        await endings.of(await add(storage, parent(), headers={"a": "b"}))
        assert isinstance(await endings.of(children[0]), JobCompleted)


async def test_a_thread_handler_without_a_context_parameter_sees_its_abort(storage: Probe, stage: Stage) -> None:
    @job
    def wait() -> None:
        stage.reach("started")
        stage.wait("stopped")
        deep().check_aborted()

    async with working(storage, wait) as worker:
        endings = Endings(worker)
        job_id = await add(storage, wait())
        await stage.reached("started")
        await storage.abort([job_id])
        [run] = worker._session.pipeline.running  # type: ignore[union-attr]
        await until(lambda: run.stop)
        stage.reach("stopped")
        assert type(await endings.of(job_id)).__name__ == "JobAborted"


async def test_a_task_that_outlives_its_handler_sees_a_context_that_adds_nothing(storage: Probe, stage: Stage) -> None:
    gate, tasks, errors = asyncio.Event(), [], []

    async def late() -> None:
        await gate.wait()
        deep().progress(99)
        try:
            deep().add(on_loop())
        except ClosedError as error:
            errors.append(error)
        stage.reach("late")

    @job
    async def start() -> None:
        tasks.append(asyncio.create_task(late()))

    async with working(storage, start) as worker:
        assert isinstance(await ending(worker, storage, start()), JobCompleted)
        gate.set()
        await stage.reached("late")
    assert len(errors) == 1


def test_there_is_none_outside_of_a_job() -> None:
    assert current_job() is None


async def test_log_records_of_a_handler_carry_its_job(storage: Probe) -> None:
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Lines()
    handler.setFormatter(JsonFormatter())
    handler.addFilter(JobLogFilter())
    logger = logging.getLogger("shop")
    logger.addHandler(handler)
    try:

        @job(queue="mail")
        def send() -> None:
            logger.warning("sending", extra={"to": "ann"})

        async with working(storage, send) as worker:
            job_id = (await ending(worker, storage, send())).job_id
        logger.warning("outside")
    finally:
        logger.removeHandler(handler)
    inside, outside = map(json.loads, lines)
    fields = {name: inside[name] for name in ("message", "to", "job_id", "kind", "queue", "attempt")}
    assert fields == {
        "message": "sending", "to": "ann", "job_id": str(job_id), "kind": "send", "queue": "mail", "attempt": 1
    }  # fmt: skip
    assert "job_id" not in outside
