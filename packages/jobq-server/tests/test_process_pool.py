"""What a server with processes refuses, and how it starts and stops them; real ones are in the integration tests."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
from typing import Any

import pytest

from jobq_core import ConcurrencyLimiter, ConfigurationError, Retention, job
from jobq_core.memory import MemoryQueueStorage
from jobq_server import JobQueueServer, process_pool
from jobq_server.process_pool import ProcessPool
from jobq_worker import WorkerOptions
from jobq_worker.processes.supervised import READY

URL = "acme://jobs"


@job(queue="mail")
async def send() -> None: ...


@job()
async def of_the_program() -> None: ...


@job()
async def fails() -> None: ...


of_the_program.definition.job_type.__module__ = "__main__"


def pool(**options: Any) -> ProcessPool:
    return ProcessPool(2, WorkerOptions(**{"jobs": [send], **options}), ["mail"], options.pop("storage", URL))


class FakeChild:
    """A child that serves at once, and ends when it is signalled; with the job `fails` it ends at once."""

    def __init__(self, number: int, task: Any, module: str) -> None:
        json.dumps(task)  # it is sent
        assert importlib.util.find_spec(module) is not None
        self.pid = number
        self.code = None if task["kinds"] == ["send"] else 3
        self.messages = [f"{READY} 30 30"] if self.code is None else []

    def read(self) -> list[str]:
        messages, self.messages = self.messages, []
        return messages

    def poll(self) -> int | None:
        return self.code

    def send_signal(self, _: int) -> None:
        self.code = 0


@pytest.fixture
def fake_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_pool, "ChildProcess", FakeChild)
    monkeypatch.setattr("jobq_worker.processes.supervisor.TICK_SECONDS", 0.01)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pool(jobs=[of_the_program]), "job 'of_the_program' is declared in the main module or in a function"),
        (lambda: ProcessPool(2, WorkerOptions(jobs=[send]), ["mail"], "memory://"), "give its URL, such as sqlite:"),
        (lambda: ProcessPool(2, WorkerOptions(jobs=[send]), ["mail"], None), "give its URL, such as sqlite:"),
        (lambda: pool(limiter=ConcurrencyLimiter(3)), "limiter cannot be passed to processes"),
        (lambda: pool(retention=Retention(failed=1)), "retention cannot be passed to processes"),
        (lambda: JobQueueServer("memory://", jobs=[send], processes=0), "processes must be a whole number, 1 or more"),
    ],
)
def test_what_cannot_reach_a_process_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_a_job_of_a_function_is_refused() -> None:
    @job()
    async def local() -> None: ...

    with pytest.raises(ConfigurationError, match="in the main module or in a function"):
        pool(jobs=[local])


async def test_it_waits_until_each_process_serves_and_for_their_ends(fake_children: None) -> None:
    started = pool()
    assert not started.serves
    await started.start()
    assert started.serves
    assert started.pids() == {1, 2}
    assert await started.stop() == 0
    assert await started.wait() == 0
    started.begin_stop()  # does nothing


async def test_a_failure_of_the_first_process_is_an_error_at_the_start(fake_children: None) -> None:
    with pytest.raises(ConfigurationError, match="the processes could not start: the first ended with code 3"):
        await pool(jobs=[fails]).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> JobQueueServer:
    """A server with processes, whose URL this environment can open."""
    made = MemoryQueueStorage()
    monkeypatch.setattr("jobq_core.owned_storage.as_storage", lambda url: made)
    return JobQueueServer(URL, jobs=[send], processes=2)


def test_what_is_around_a_handler_is_refused_with_the_command_that_takes_it(server: JobQueueServer) -> None:
    with pytest.raises(ConfigurationError, match="run `jobq server MODULE:SERVER --processes N`"):
        server.middleware(lambda job, context: None)


async def test_a_server_with_processes_starts_and_stops(server: JobQueueServer, fake_children: None) -> None:
    server.configure(worker_count=3)
    assert server.worker_count == 3
    assert not server.health().healthy
    async with server:
        assert server.health().healthy
        assert (await server.stats()).pool.total.completed == 0
        with pytest.raises(ConfigurationError, match="cannot be scaled"):
            server.scale(5)
    assert server.health().state == "stopped"
    async with server:
        assert server.is_running
        await server.stop(timeout=1)
    assert not server.is_running


async def test_run_ends_when_the_processes_have_ended(server: JobQueueServer, fake_children: None) -> None:
    await server.start()
    running = asyncio.ensure_future(server.run())
    await asyncio.sleep(0)  # it receives signals now
    await server.stop()
    await running


async def test_run_stops_at_a_signal(server: JobQueueServer, fake_children: None) -> None:
    await server.start()
    running = asyncio.ensure_future(server.run())
    await asyncio.sleep(0)  # it receives signals now
    os.kill(os.getpid(), signal.SIGTERM)
    await running
    assert server.health().state == "stopped"
