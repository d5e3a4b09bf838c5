"""Handlers in processes: how they run, how they die, and what crosses to the worker."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO
from uuid import UUID

import pytest

from jobq_core import (
    AbortSignalJobError,
    ConfigurationError,
    JobAborted,
    JobCompleted,
    JobFailed,
    JobRetried,
    JobStarted,
    JobState,
    Secret,
    job,
)
from jobq_core.registry import declared_in
from jobq_core.storage import JobFilter
from jobq_core.why import why
from jobq_worker import JobQueueWorker, session
from jobq_worker.executors import handler_process, process_run, process_thread, processes
from jobq_worker.executors.process_signals import ProcessSignals
from jobq_worker.executors.process_thread import ProcessThread
from jobq_worker.logs import JsonFormatter

from .kit import Endings, add, add_many, ending, record, state, until, working
from .probe import Probe

HERE = Path(__file__).parent


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the jobs, as the processes can import it too."""
    monkeypatch.syspath_prepend(HERE)
    import process_jobs

    return process_jobs


@pytest.fixture
def quick_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "KILL_SECONDS", 0.2)


class Pipes:
    """Named pipes on which a test and its handlers meet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, TextIO] = {}

    def make(self) -> str:
        """Make a pipe."""
        path = self._folder / str(len(list(self._folder.iterdir())))
        os.mkfifo(path)
        return str(path)

    async def open(self, pipe: str, mode: str = "r") -> TextIO:
        """Open a pipe, as soon as the handler has opened the other end."""
        self._files[pipe] = await asyncio.to_thread(open, pipe, mode)
        return self._files[pipe]

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()


@pytest.fixture
def pipes(tmp_path: Path) -> Iterator[Pipes]:
    made = Pipes(tmp_path)
    yield made
    made.close()


async def line(file: TextIO) -> str:
    """Read a line that the handler has written; '' when the last process has closed the pipe."""
    return await asyncio.to_thread(file.readline)


def common(jobs: ModuleType) -> list[Any]:
    """Return the jobs that need no resources."""
    return [each for each in declared_in(jobs) if not each.definition.resources]


def processes_left() -> int:
    """Count the handler processes of this process."""
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "process_main"], capture_output=True, check=False)
    return len(found.stdout.split())


async def result(storage: Probe, worker: JobQueueWorker, wanted: Any, **options: Any) -> Any:
    """Run a job; return what it returned."""
    event = await ending(worker, storage, wanted, **options)
    assert isinstance(event, JobCompleted), event
    return json.loads(event.result_json)


async def test_handlers_run_in_a_process_that_is_kept(storage: Probe, jobs: ModuleType, tmp_path: Path) -> None:
    worker = JobQueueWorker(storage, jobs=common(jobs))
    worker.handles(jobs.Bare)(jobs.supplied)
    async with worker:
        first = await result(storage, worker, jobs.pid())
        assert first != os.getpid()
        assert await result(storage, worker, jobs.pid()) == first
        assert await result(storage, worker, jobs.double(4)) == 8
        assert await result(storage, worker, jobs.Bare(n=4)) == 5
        assert await result(storage, worker, jobs.signals()) == ["goes on", "SIGTERM"]
        assert await result(storage, worker, jobs.use_multiprocessing()) == [1, 2]
        described = await ending(
            worker, storage, jobs.Describe(tmp_path / "a.png"), tags=["x"], headers={"tenant": "7"}, deadline=60
        )
        found = await record(storage, described.job_id)
        assert found.result == {
            "suffix": ".png",
            "every": "1:00:00",
            "job": str(found.id),
            "worker": str(worker.id),
            "tags": "x",
            "tenant": "7",
            "deadline": "True",
        }
        assert (found.progress.percent, found.progress.message) == (50.0, "half")
        assert found.progress.details == {"every": "PT3600S"}
        [added] = [each for each in (await storage.find(JobFilter(kinds=["pid"]))).jobs if each.priority == 3]
        assert added.created_at >= found.created_at
        assert (await record(storage, added.id)).parent == found.id
    assert processes_left() == 0


async def test_middleware_runs_in_the_process_of_the_handler(storage: Probe, jobs: ModuleType) -> None:
    worker = JobQueueWorker(storage, jobs=[jobs.current, jobs.look_up])
    worker.middleware(jobs.exclaim)
    worker.middleware(jobs.wonder)
    async with worker:
        event = await ending(worker, storage, jobs.current())
        assert (await record(storage, event.job_id)).result == f"{event.job_id}?!"
        caught = await ending(worker, storage, jobs.look_up())
        assert isinstance(caught, JobFailed)
        assert "Expected `int`, got `str`" in caught.error.message
    worker.middleware(lambda job, context: jobs.exclaim(job, context))
    with pytest.raises(ConfigurationError, match=r"the middleware .*<lambda> runs in a process, .*: define"):
        await worker.start()


async def test_each_process_opens_resources_once_and_closes_them_at_its_end(
    storage: Probe, jobs: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    worker = JobQueueWorker(storage, jobs=[jobs.use], concurrency=1, process_max_jobs=2)
    worker.provides(jobs.open_pool)
    worker.provides(scope="run")(jobs.open_cursor)
    async with worker:
        used = [await result(storage, worker, jobs.use()) for _ in range(3)]
    first, second = used[0][0], used[2][0]
    assert used == [[first, 1], [first, 2], [second, 1]]
    assert os.getpid() not in (first, second)
    closed = [each.getMessage() for each in caplog.records if each.name == "shop"]
    assert closed == [f"closed in {first} after 2 uses", f"closed in {second} after 1 uses"]


async def test_a_resource_that_cannot_be_opened_fails_the_run(storage: Probe, jobs: ModuleType) -> None:
    worker = JobQueueWorker(storage, jobs=[jobs.need])
    worker.provides(jobs.open_nothing)
    async with worker:
        event = await ending(worker, storage, jobs.need())
    assert isinstance(event, JobFailed)
    assert event.error.message.endswith("before it could call the handler: ConnectionError: the database is down")


async def test_the_exception_of_a_handler_decides_in_its_process(storage: Probe, jobs: ModuleType) -> None:
    async with working(storage, jobs.fail, concurrency=1) as worker:
        endings = Endings(worker)
        ids = {
            how: await add(storage, jobs.fail(how, Secret("sesame")))
            for how in ("retry", "lookup", "permanent", "later", "snooze", "exit", "nothing")
        }
        retried = await endings.of(ids["retry"])
        assert isinstance(retried, JobRetried)
        assert retried.error.type == "process_jobs.OwnError"
        assert retried.error.message == "*** was refused with 7"
        assert retried.error.traceback is not None
        assert "raise OwnError(key.reveal(), code=7)" in retried.error.traceback
        assert "sesame" not in retried.error.traceback
        assert "jobq_worker" not in retried.error.traceback
        assert isinstance(await endings.of(ids["retry"], 2), JobFailed)
        for how in ("lookup", "permanent", "nothing"):
            assert isinstance(await endings.of(ids[how]), JobFailed), how
        later = await endings.of(ids["later"])
        assert isinstance(later, JobRetried)
        exited = await endings.of(ids["exit"])
        assert isinstance(exited, JobRetried)
        assert (exited.error.type, exited.error.message) == ("SystemExit", "3")
        await until(lambda: _is_in(storage, ids["snooze"], JobState.SCHEDULED))
        assert (await record(storage, ids["snooze"])).attempt == 0
        assert (await record(storage, ids["later"])).state is JobState.SCHEDULED
        assert "cannot be stored" in (await record(storage, ids["nothing"])).attempts[0].error.message


async def _is_in(storage: Probe, job_id: UUID, wanted: JobState) -> bool:
    return await state(storage, job_id) is wanted


async def test_a_process_that_dies_fails_its_attempt_alone(storage: Probe, jobs: ModuleType, pipes: Pipes) -> None:
    async with working(storage, *common(jobs), concurrency=3) as worker:
        endings = Endings(worker)
        pipe = pipes.make()
        neighbour = await add(storage, jobs.wait_for(pipe))
        held = await pipes.open(pipe, "w")
        for how, said in [
            ("SIGSEGV", "the handler process was ended by SIGSEGV"),
            ("SIGKILL", "the handler process was ended by SIGKILL (the kernel does this when memory runs out)"),
            ("0", "the handler process exited with code 0"),
        ]:
            event = await endings.of(await add(storage, jobs.die(how)))
            assert isinstance(event, JobFailed)
            assert (event.error.type, event.error.message) == ("jobq_core.errors.WorkerLostError", said)
        retried = await add(storage, jobs.die_first())
        assert isinstance(await endings.of(retried), JobRetried)
        assert isinstance(await endings.of(retried, 2), JobCompleted)
        held.close()
        assert isinstance(await endings.of(neighbour), JobCompleted)
        assert (await record(storage, neighbour)).attempt == 1
    assert processes_left() == 0


@pytest.mark.usefixtures("quick_kill")
async def test_a_handler_that_hangs_is_killed_with_the_processes_that_it_started(
    storage: Probe, jobs: ModuleType, pipes: Pipes
) -> None:
    async with working(storage, *common(jobs), concurrency=2) as worker:
        endings = Endings(worker)
        pipe = pipes.make()
        hanging = await add(storage, jobs.hang(pipe), timeout=0.05)
        held = await pipes.open(pipe)
        killed = int(await line(held))
        event = await endings.of(hanging)
        assert isinstance(event, JobFailed)
        assert event.error.type == "jobq_core.errors.JobTimeoutError"
        assert await line(held) == ""
        assert await result(storage, worker, jobs.pid()) != killed
        assert worker.pool_stats().total.hung == 0


async def test_an_aborted_handler_may_heed_it_or_is_interrupted_or_cancelled(
    storage: Probe, jobs: ModuleType, pipes: Pipes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "INTERRUPT_SECONDS", 0.05)
    monkeypatch.setattr(processes, "KILL_SECONDS", 60.0)
    async with working(storage, *common(jobs), concurrency=3) as worker:
        endings = Endings(worker)
        for made, says in [(jobs.heed, ""), (jobs.sleep, "cleaned up\n"), (jobs.sleep_async, "")]:
            pipe = pipes.make()
            job_id = await add(storage, made(pipe=pipe))
            held = await pipes.open(pipe)
            await line(held)
            await storage.abort([job_id])
            assert isinstance(await endings.of(job_id), JobAborted)
            assert await line(held) == says
        assert len({await result(storage, worker, jobs.pid()) for _ in range(3)}) == 1
        assert worker.pool_stats().total.aborted == 3


def test_a_handler_is_interrupted_by_a_later_signal_if_the_first_interrupts_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def pthread_kill(thread: int | None, number: int) -> None:
        sent.append((thread, number))
        if len(sent) == 3:
            with pytest.raises(AbortSignalJobError):
                signals._take(number, None)

    sent: list[tuple[int | None, int]] = []
    signals = ProcessSignals(lambda: None)
    monkeypatch.setattr(signal, "pthread_kill", pthread_kill)
    with signals.interruptible("a run"):
        signals.interrupt("a run")
    assert sent == [(threading.main_thread().ident, signal.SIGTERM)] * 3


@pytest.mark.usefixtures("quick_kill")
async def test_a_paused_process_is_killed_too(storage: Probe, jobs: ModuleType, pipes: Pipes) -> None:
    async with working(storage, *common(jobs)) as worker:
        endings = Endings(worker)
        pipe = pipes.make()
        job_id = await add(storage, jobs.hang(pipe))
        os.kill(int(await line(await pipes.open(pipe))), signal.SIGSTOP)
        await storage.abort([job_id])
        assert isinstance(await endings.of(job_id), JobAborted)


async def test_a_process_is_replaced_after_so_many_jobs_or_so_much_memory(storage: Probe, jobs: ModuleType) -> None:
    async with working(storage, *common(jobs), concurrency=1, process_max_jobs=2, process_max_memory="200MB") as worker:
        pids = [await result(storage, worker, jobs.pid()) for _ in range(3)]
        assert pids[0] == pids[1] != pids[2]
        large = await result(storage, worker, jobs.hold(200_000_000))
        assert large == pids[2]
        assert await result(storage, worker, jobs.pid()) != large


async def test_at_most_process_limit_jobs_run_and_the_others_wait(
    storage: Probe, jobs: ModuleType, pipes: Pipes
) -> None:
    async def is_reported(waiting: list[UUID]) -> bool:
        [record] = await storage.workers()
        return record.stats.awaiting_process == tuple(waiting)

    async with working(storage, *common(jobs), concurrency=4, process_limit=1, heartbeat_interval=0.01) as worker:
        endings = Endings(worker)
        pipe = pipes.make()
        first = await add(storage, jobs.wait_for(pipe))
        held = await pipes.open(pipe, "w")
        waiting, aborted = await add_many(storage, [jobs.pid(), jobs.pid()])
        await until(lambda: worker.health().running == 3)
        await until(lambda: is_reported([waiting, aborted]))
        assert (await why(storage, waiting)).code == "no-process"
        assert (await why(storage, first)).code == "running"
        await storage.abort([aborted])
        assert isinstance(await endings.of(aborted), JobAborted)
        held.close()
        results = [await endings.of(job_id) for job_id in (first, waiting)]
        assert len({event.result_json for event in results if isinstance(event, JobCompleted)}) == 1


async def test_a_run_that_waits_for_a_process_to_start_can_be_aborted(
    storage: Probe, jobs: ModuleType, pipes: Pipes
) -> None:
    async with working(storage, *common(jobs)) as worker:
        endings = Endings(worker)
        started = worker.next_event(JobStarted)
        job_id = await add(storage, jobs.wait_for(pipes.make()))
        await started
        await storage.abort([job_id])
        assert isinstance(await endings.of(job_id), JobAborted)


async def test_a_flood_of_progress_reports_is_thinned_out_and_the_last_one_stored(
    storage: Probe, jobs: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = 0
    handle = ProcessThread._handle

    def count(self: ProcessThread, *arguments: Any) -> None:
        nonlocal received
        received += 1
        handle(self, *arguments)

    monkeypatch.setattr(ProcessThread, "_handle", count)
    async with working(storage, *common(jobs)) as worker:
        event = await ending(worker, storage, jobs.report_often(20_000))
        assert (await record(storage, event.job_id)).progress.message == "last"
    assert received < 1000


async def test_log_records_reach_the_worker_with_the_fields_of_the_job(
    storage: Probe, jobs: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "shop"):
        async with working(storage, *common(jobs)) as worker:
            event = await ending(worker, storage, jobs.log(Secret("sesame")))
    first, second = [each for each in caplog.records if each.name == "shop"]
    assert (first.getMessage(), first.levelno, first.funcName) == ("for ***", logging.INFO, "log")
    assert first.process != os.getpid()
    assert vars(first) | {"job_id": str(event.job_id), "kind": "log", "attempt": 1, "order": 7} == vars(first)
    assert (vars(first)["secret"], vars(first)["where"]) == ("***", "shop")
    assert second.exc_text is not None
    assert "LookupError: gone" in second.exc_text
    assert json.loads(JsonFormatter().format(second))["traceback"].endswith("LookupError: gone")


async def test_an_idle_process_that_dies_costs_no_attempt(
    storage: Probe, jobs: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    async with working(storage, *common(jobs)) as worker:
        first = await result(storage, worker, jobs.pid())
        os.kill(first, signal.SIGKILL)
        await until(lambda: "an idle handler process" in caplog.text)
        event = await ending(worker, storage, jobs.pid())
        assert isinstance(event, JobCompleted)
        assert (await record(storage, event.job_id)).attempt == 1


async def test_a_process_that_begins_no_run_is_replaced(
    storage: Probe, jobs: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_run, "BEGIN_SECONDS", 0.5)
    monkeypatch.setattr(process_thread, "TRIES", 100)  # a slow machine may replace more than the paused one
    async with working(storage, *common(jobs), concurrency=1) as worker:
        paused = await result(storage, worker, jobs.pid())
        os.kill(paused, signal.SIGSTOP)
        event = await ending(worker, storage, jobs.pid())
        assert isinstance(event, JobCompleted)
        assert int(event.result_json) != paused
        assert (await record(storage, event.job_id)).attempt == 1


async def test_a_process_that_cannot_import_its_handlers_fails_the_run(
    storage: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    module = ModuleType("made_up")

    @job(executor="process", max_attempts=1)
    def made_up() -> None: ...

    made_up.definition.job_type.__module__ = module.__name__
    module.made_up = made_up  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    try:
        async with working(storage, made_up) as worker:
            event = await ending(worker, storage, made_up())
    finally:
        del sys.modules[module.__name__]
    assert isinstance(event, JobFailed)
    assert "before it could call the handler: ModuleNotFoundError: No module named 'made_up'" in event.error.message
    assert "could not start:\nTraceback" in caplog.text


async def test_a_handler_that_a_process_would_not_find_is_refused(storage: Probe, jobs: ModuleType) -> None:
    @job(executor="process")
    def local() -> None: ...

    with pytest.raises(ConfigurationError, match=r"'local' runs in a process, which imports it from .*: declare it at"):
        await JobQueueWorker(storage, jobs=[local]).start()
    worker = JobQueueWorker(storage, jobs=[jobs.Bare])
    worker.handles(jobs.Bare)(lambda job: job.n)
    with pytest.raises(ConfigurationError, match=r"handler of 'Bare' runs in a process, .*: define '.*<lambda>' at"):
        await worker.start()


@pytest.mark.usefixtures("quick_kill")
async def test_a_worker_that_stops_waits_then_kills_and_hands_the_job_back(
    storage: Probe, jobs: ModuleType, pipes: Pipes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "END_SECONDS", 30.0)
    async with working(storage, *common(jobs), concurrency=2) as worker:
        pipe, other = pipes.make(), pipes.make()
        waits = await add(storage, jobs.wait_for(pipe))
        held = await pipes.open(pipe, "w")
        hangs = await add(storage, jobs.hang(other))
        await line(await pipes.open(other))
        stopping = asyncio.create_task(worker.stop(60))
        await until(lambda: worker.health().state == "stopping")
        held.close()
        await until(lambda: _is_in(storage, waits, JobState.COMPLETED))
        await worker.stop(0)
        await stopping
        assert await state(storage, hangs) is JobState.PENDING
        assert (await record(storage, hangs)).attempt == 0
        assert processes_left() == 0


PROGRAM = """
import asyncio, ctypes, os
import jobq_core.memory.storage as memory
from jobq_core import job
from jobq_core.adding import new_job
from jobq_core.ids import new_id
from jobq_worker import JobQueueWorker, session

@job(executor="process")
def hold_the_lock() -> None:
    print(os.getpid(), flush=True)
    ctypes.PyDLL(None).sleep(1000)

async def main() -> None:
    async with memory.MemoryQueueStorage() as storage:
        await storage.add([new_job(new_id(), hold_the_lock(), "default", {})])
        await JobQueueWorker(storage, jobs=[hold_the_lock]).run()

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_no_process_is_left_when_its_worker_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() != f"{worker.pid}\n"
        worker.kill()
        assert worker.stdout.readline() == ""  # the handler process, which had it open too, has ended


def test_the_end_of_a_process_is_named_by_its_signal_or_its_exit_code() -> None:
    assert handler_process.how_it_ended(3) == "exited with code 3"
    assert handler_process.how_it_ended(-15) == "was ended by SIGTERM"
    assert handler_process.how_it_ended(-63) == "was ended by signal 63"
