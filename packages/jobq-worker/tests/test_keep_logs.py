"""With `keep_logs`, what handlers log is kept with their jobs; whatever happens to it, the jobs go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from jobq_core import (
    ConfigurationError,
    Job,
    JobCompleted,
    JobContext,
    JobRetried,
    QueueStorage,
    RetryableJobError,
    Secret,
    StorageError,
    job,
)
from jobq_core.job import definition_of
from jobq_core.memory import MemoryQueueStorage
from jobq_core.memory.logs import Logs
from jobq_core.memory.store import Clock, Store
from jobq_core.memory.transaction import MemoryTransactions
from jobq_core.storage import LogStorage
from jobq_worker import JobQueueWorker
from jobq_worker.running import log_keeper

from .kit import Endings, Stage, add, add_many, ending, until, working
from .probe import Probe

log = logging.getLogger("shop.mail")


@pytest.fixture(autouse=True)
def shop() -> Iterator[None]:
    """Let the logger of the handlers pass everything on, whatever the root logger's level is."""
    log.setLevel(logging.DEBUG)
    yield
    log.setLevel(logging.NOTSET)


async def kept(storage: LogStorage, job_id: UUID) -> list[tuple[int, str, str]]:
    """Return the attempt, the level and the message of each line that is kept with a job."""
    return [(part.attempt, line.level, line.message) for part in await storage.read_logs(job_id) for line in part.lines]


@job
async def on_loop(number: int) -> None:
    async def part() -> None:
        log.warning("task of %d", number)

    log.debug("below the level")
    log.info("loop %d", number)
    await asyncio.gather(part())
    await asyncio.to_thread(log.error, "thread of %d", number)


@job
def in_thread(number: int) -> None:
    log.debug("below the level")
    log.info("thread %d", number)


async def test_what_runs_log_is_kept_with_their_own_jobs_before_they_end(storage: Probe) -> None:
    async with working(storage, on_loop, in_thread, keep_logs="info", concurrency=8) as worker:
        endings = Endings(worker)
        loops = await add_many(storage, [on_loop(n) for n in range(5)])
        threads = await add_many(storage, [in_thread(n) for n in range(5)])
        for number, job_id in enumerate(loops):
            await endings.of(job_id)
            texts = [("INFO", f"loop {number}"), ("WARNING", f"task of {number}"), ("ERROR", f"thread of {number}")]
            assert await kept(storage, job_id) == [(1, *text) for text in texts]
        for number, job_id in enumerate(threads):
            await endings.of(job_id)
            assert await kept(storage, job_id) == [(1, "INFO", f"thread {number}")]


async def test_the_first_line_is_kept_at_once_while_its_run_goes_on(
    storage: Probe, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_keeper, "WRITE_SECONDS", 600.0)

    @job
    async def long() -> None:
        log.info("begun")
        await stage.reached("end")
        log.info("over")

    async with working(storage, long, keep_logs=logging.INFO) as worker:
        endings = Endings(worker)
        job_id = await add(storage, long())
        await until(lambda: kept(storage, job_id))
        assert await kept(storage, job_id) == [(1, "INFO", "begun")]
        stage.reach("end")
        await endings.of(job_id)
        assert [text for *_, text in await kept(storage, job_id)] == ["begun", "over"]


async def test_each_attempt_keeps_its_own_lines(storage: Probe) -> None:
    @job(max_attempts=2)
    async def twice(context: JobContext) -> None:
        log.info("try %d", context.attempt)
        if context.attempt == 1:
            log.error("no luck", exc_info=LookupError("gone"))
            raise RetryableJobError(delay=0)

    async with working(storage, twice, keep_logs="info") as worker:
        endings = Endings(worker)
        job_id = await add(storage, twice())
        assert isinstance(await endings.of(job_id, 1), JobRetried)
        assert isinstance(await endings.of(job_id, 2), JobCompleted)
        lines = await kept(storage, job_id)
    assert lines == [(1, "INFO", "try 1"), (1, "ERROR", "no luck\nLookupError: gone"), (2, "INFO", "try 2")]


async def test_records_of_handler_processes_are_kept(storage: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    import process_jobs

    jobs: ModuleType = process_jobs
    monkeypatch.setattr(logging.getLogger("shop"), "level", logging.INFO)
    async with working(storage, jobs.log, keep_logs="info", concurrency=1) as worker:
        ended = await ending(worker, storage, jobs.log(Secret("sesame")))
        first, second = await kept(storage, ended.job_id)
    assert first == (1, "INFO", "for ***")
    assert second[2].startswith("it failed\nTraceback")
    assert second[2].endswith("LookupError: gone")


async def test_only_records_of_its_own_runs_are_kept(storage: Probe, stage: Stage) -> None:
    @job(queue="a")
    async def spoken() -> None:
        log.info("of the first worker")
        await stage.reached("end")

    @job(queue="b")
    async def elsewhere() -> None:
        log.info("of the second worker")

    async with (
        working(storage, spoken, keep_logs="info") as first,
        working(storage, elsewhere, keep_logs="error", name="second") as second,
    ):
        endings = Endings(first), Endings(second)
        one, two = await add(storage, spoken()), await add(storage, elsewhere())
        await endings[1].of(two)
        log.critical("of no job")
        stage.reach("end")
        await endings[0].of(one)
        assert await kept(storage, one) == [(1, "INFO", "of the first worker")]
        assert await kept(storage, two) == []


async def test_without_the_option_nothing_is_kept_and_nothing_is_added_to_the_loggers(storage: Probe) -> None:
    before = logging.getLogger().handlers[:]
    async with working(storage, in_thread) as worker:
        assert logging.getLogger().handlers == before
        ended = await ending(worker, storage, in_thread(1))
        assert await kept(storage, ended.job_id) == []
    assert storage.calls["write_logs"] == 0


async def test_a_stopped_worker_has_left_the_loggers(storage: Probe) -> None:
    before = logging.getLogger().handlers[:]
    async with working(storage, in_thread, keep_logs="debug"):
        assert len(logging.getLogger().handlers) == len(before) + 1
    assert logging.getLogger().handlers == before


async def test_lines_that_cannot_be_stored_are_dropped_and_the_job_completes(
    storage: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    storage.fail("write_logs", 1000, error=StorageError("no table"))
    async with working(storage, in_thread, keep_logs="info") as worker:
        endings = Endings(worker)
        for job_id in await add_many(storage, [in_thread(n) for n in range(5)]):
            assert isinstance(await endings.of(job_id), JobCompleted)
            assert await kept(storage, job_id) == []
        storage._faults.clear()
        ended = await endings.of(await add(storage, in_thread(6)))
        assert await kept(storage, ended.job_id) == [(1, "INFO", "thread 6")]
    said = [record.getMessage() for record in caplog.records if "logs of handlers" in record.getMessage()]
    assert said == [
        "the logs of handlers cannot be stored, and are dropped when their runs end: StorageError: no table",
        "the logs of handlers can be stored again; 5 lines were dropped so far",
    ]


async def test_a_storage_that_does_not_answer_delays_a_settlement_for_a_moment_only(
    storage: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_keeper, "END_SECONDS", 0.01)
    gate = storage.hold("write_logs")
    async with working(storage, in_thread, keep_logs="info") as worker:
        assert isinstance(await ending(worker, storage, in_thread(1)), JobCompleted)
        gate.set()


async def test_a_write_that_failed_is_repeated_until_its_run_ends(
    storage: Probe, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_keeper, "RETRY_SECONDS", 0.0)

    @job
    async def long() -> None:
        log.info("begun")
        await stage.reached("end")

    storage.fail("write_logs", 2)
    storage.fail("write_logs", after=True)
    async with working(storage, long, keep_logs="info") as worker:
        endings = Endings(worker)
        job_id = await add(storage, long())
        await storage.called("write_logs", 4)
        stage.reach("end")
        await endings.of(job_id)
        assert await kept(storage, job_id) == [(1, "INFO", "begun")]


async def test_a_record_that_cannot_be_formatted_does_not_fail_the_job(
    storage: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)

    @job
    async def wrong() -> None:
        log.info("%d", "not a number")
        log.info("right")

    async with working(storage, wrong, keep_logs="info") as worker:
        ended = await ending(worker, storage, wrong())
        assert isinstance(ended, JobCompleted)
        assert await kept(storage, ended.job_id) == [(1, "INFO", "right")]


async def test_what_a_batch_handler_logs_is_not_kept_as_the_start_says(
    storage: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    @job(batch=2)
    class Many(Job[None]):
        @classmethod
        async def execute(cls, jobs: list[Many]) -> None:
            log.info("of several jobs")

    caplog.set_level(logging.INFO, "jobq.worker")
    worker = JobQueueWorker(storage, jobs=[Many, in_thread], keep_logs="info", stop_timeout=0)

    @worker.middleware
    async def around(each: Job[Any], context: JobContext) -> AsyncIterator[None]:
        log.info("before run %d", context.attempt)
        yield

    async with worker:
        assert f"keep_logs does not keep what batch handlers log: {definition_of(Many).kind}" in caplog.messages
        endings = Endings(worker)
        for job_id in await add_many(storage, [Many(), Many()]):
            await endings.of(job_id)
            assert await kept(storage, job_id) == [(1, "INFO", "before run 1")]


async def test_a_handler_that_was_settled_without_its_end_keeps_no_more_lines(storage: Probe, stage: Stage) -> None:
    @job(timeout=0.01, max_attempts=1)
    def hangs() -> None:
        log.info("before")
        stage.wait("go on")
        log.info("after")

    async with working(storage, hangs, keep_logs="info") as worker:
        ended = await ending(worker, storage, hangs())
        stage.reach("go on")
        await until(lambda: worker.health().hung == 0)
        assert [text for *_, text in await kept(storage, ended.job_id)] == ["before"]


async def test_a_root_logger_that_lets_less_through_is_named(
    storage: Probe, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    async with working(storage, in_thread, keep_logs="info"):
        pass
    assert (
        "keep_logs is INFO, but the root logger lets only WARNING and above through; lower its level, as with "
        "logging.getLogger().setLevel('INFO')" in caplog.text
    )


async def test_a_program_that_has_set_up_no_logging_still_sees_its_warnings(
    storage: Probe, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    async with working(storage, on_loop, keep_logs="error") as worker:
        await ending(worker, storage, on_loop(1))
    assert capsys.readouterr().err == "task of 1\nthread of 1\n"
    assert logging.getLogger().handlers == []


def _without_logs() -> QueueStorage:
    """Return a storage like memory's without the optional facet."""
    bases = tuple(base for base in MemoryQueueStorage.__bases__ if base is not Logs)
    names = ("from_url", "url", "open", "close", "migrate", "migration_sql", "now", "subscribe")
    members: dict[str, Any] = {name: vars(MemoryQueueStorage)[name] for name in names}
    storage: Any = type("Loft", bases, {**members, "_name": "loft"})
    made: QueueStorage = storage(Store(Clock()))
    return made


async def test_a_storage_that_keeps_no_logs_is_refused_at_the_start() -> None:
    async with _without_logs() as storage:
        assert isinstance(storage, MemoryTransactions)
        async with working(storage, in_thread):
            pass
        worker = JobQueueWorker(storage, jobs=[in_thread], keep_logs="info")
        with pytest.raises(ConfigurationError, match=r"^keep_logs needs a storage with the facet LogStorage, which L"):
            await worker.start()
        assert await storage.workers() == []
