"""What a server with processes refuses, and how it starts and stops them; real ones are in the integration tests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobq_core import ConcurrencyLimiter, ConfigurationError, Retention, job
from jobq_server import JobQueueServer, process_pool
from jobq_server.process_pool import ProcessPool
from jobq_worker import WorkerOptions
from jobq_worker.supervised import READY

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

    def __init__(self, number: int, task: Any) -> None:
        json.dumps(task)  # it is sent
        self.pid = number
        self.code = None if task["kinds"] == ["send"] else 3
        self.messages = [READY]

    def read(self) -> bytes:
        return self.messages.pop() if self.messages and self.code is None else b""

    def poll(self) -> int | None:
        return self.code

    def send_signal(self, _: int) -> None:
        self.code = 0


@pytest.fixture
def fake_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_pool, "ChildProcess", FakeChild)
    monkeypatch.setattr("jobq_worker.supervisor.TICK_SECONDS", 0.01)


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
