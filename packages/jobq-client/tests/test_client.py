from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from jobq_client import JobQueueClient
from jobq_core import ClosedError, ConfigurationError, JobState, StorageUnavailableError, WaitTimeoutError

from .helpers import Probe
from .jobs import convert, keep


async def test_a_storage_given_by_url_is_opened_and_closed_by_the_client() -> None:
    async with JobQueueClient("memory://") as client:
        storage = client.storage
        await client.add(keep(1))
        assert await client.size() == 1
    with pytest.raises(ClosedError):
        await storage.now()


async def test_a_storage_of_the_callers_is_left_open(storage: Probe) -> None:
    async with JobQueueClient(storage) as client:
        await client.add(keep(1))
    assert await storage.now()


async def test_a_storage_that_its_owner_did_not_open_is_an_error() -> None:
    client = JobQueueClient(Probe())
    with pytest.raises(ClosedError, match="not open"):
        await client.start()


async def test_an_invalid_url_is_refused_at_construction() -> None:
    with pytest.raises(ConfigurationError, match="nothing://"):
        JobQueueClient("nothing://x")


@pytest.mark.parametrize(
    ("name", "value"),
    [("queue", ""), ("patience", -1), ("patience", "x"), ("poll", 0), ("poll", float("inf")), ("poll", timedelta(0))],
)
async def test_an_invalid_option_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        JobQueueClient("memory://", **{name: value})


async def test_times_may_be_given_as_a_timedelta(storage: Probe) -> None:
    minute = timedelta(minutes=1)
    async with JobQueueClient(storage, patience=minute, poll=minute) as client:
        handle = await client.add(keep(1))
        with pytest.raises(WaitTimeoutError, match=r"after 0\.001 seconds"):
            await client.wait_for(handle, timeout=timedelta(milliseconds=1))
        with pytest.raises(WaitTimeoutError):
            await handle.result(timeout=timedelta(0))


async def test_it_can_be_started_stopped_and_started_again() -> None:
    url = f"memory://{uuid4()}"
    client = JobQueueClient(url)
    for count in (1, 2, 3):
        await client.start()
        await client.start()
        await client.add(keep(1))
        assert await client.size() == count
        await client.stop()
        await client.stop()


async def test_a_client_that_is_not_running_raises_closed_error() -> None:
    client = JobQueueClient("memory://")
    for call in (client.add(keep(1)), client.get(uuid4()), client.size(), client.wait_for(uuid4()), client.find()):
        with pytest.raises(ClosedError, match="call start"):
            await call
    with pytest.raises(ClosedError):
        client.on_progress(uuid4(), print)
    with pytest.raises(ClosedError):
        client.watch(uuid4())
    with pytest.raises(ClosedError):
        _ = client.storage


async def test_a_start_that_fails_leaves_the_client_as_it_was(storage: Probe) -> None:
    client = JobQueueClient(storage)
    storage.fail("now")
    with pytest.raises(StorageUnavailableError):
        await client.start()
    with pytest.raises(ClosedError):
        await client.size()
    await client.start()
    assert await client.size() == 0
    await client.stop()


async def test_a_start_that_fails_closes_what_it_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Probe()
    monkeypatch.setattr("jobq_core.owned_storage.as_storage", lambda url: storage)
    client = JobQueueClient("memory://")
    storage.fail("now")
    with pytest.raises(StorageUnavailableError):
        await client.start()
    with pytest.raises(ClosedError):
        await storage.now()
    async with client:
        assert client.storage is storage


async def test_without_a_storage_the_environment_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBQ_STORAGE", "memory://named")
    async with JobQueueClient() as client:
        assert client.storage.url == "memory://named"
    monkeypatch.delenv("JOBQ_STORAGE")
    with pytest.raises(ConfigurationError, match="JOBQ_STORAGE"):
        JobQueueClient()


def test_a_client_that_another_event_loop_started_refuses_all_calls_and_starts() -> None:
    client = JobQueueClient("memory://")
    job_id = uuid4()

    async def follow() -> None:
        await anext(client.follow(job_id))

    async def subscribe() -> None:
        client.watch(job_id)

    calls: list[Callable[[], Coroutine[Any, Any, object]]] = [
        lambda: client.add(keep(1)),
        lambda: client.add_many([keep(1)]),
        lambda: client.wait_for(job_id),
        lambda: client.wait_for(job_id, timeout=0),
        lambda: client.progress_of(job_id),
        follow,
        subscribe,
        lambda: client.get(job_id),
        client.find,
        client.counts,
        lambda: client.output_for(convert({})),
        lambda: client.abort(job_id),
        lambda: client.abort_run("night"),
        lambda: client.retry(job_id),
        client.clear,
        client.start,
        client.stop,
    ]
    with asyncio.Runner() as owner:
        owner.run(client.start())
        for call in calls:
            with pytest.raises(ConfigurationError, match=r"on another event loop.*nothing was sent"):
                asyncio.run(call())
        with pytest.raises(ConfigurationError, match="outside an event loop"):
            client.watch(job_id)
        assert owner.run(client.counts()) == dict.fromkeys(JobState, 0)
        owner.run(client.stop())


async def test_stopping_while_idle_is_immediate(storage: Probe) -> None:
    client = JobQueueClient(storage, patience=3600)
    await client.start()
    await client.stop()


def test_importing_the_client_imports_no_worker_server_storage_or_command_line() -> None:
    script = "import sys, jobq_client; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    heavy = {
        "jobq_client.sync_client",
        "jobq_worker",
        "jobq_server",
        "jobq_core.memory",
        "click",
        "rich",
        "sqlite3",
        "psycopg",
        "aiosqlite",
    }
    seldom = {"hashlib", "importlib.metadata", "importlib.resources", "json", "urllib.parse"}
    assert (heavy | seldom).isdisjoint(modules)
