"""The testing kit with clients: the fixtures of the plugin, `drain`, `assert_added`, and the eager clients."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jobq_client import JobQueueClient, SyncJobQueueClient
from jobq_client.testing import EagerJobQueueClient, EagerSyncJobQueueClient
from jobq_core import Backoff, ConfigurationError, JobContext, JobState, RetryPolicy, job
from jobq_core.testing import ManualClockStorage, assert_added, assert_not_added, drain, drain_sync
from jobq_server import JobQueue

threads: list[threading.Thread] = []


@job(name="kit_greet", queue="mail")
def greet(name: str) -> str:
    threads.append(threading.current_thread())
    return f"hello {name}"


@job(name="kit_greet_async")
async def greet_async(context: JobContext, name: str) -> str:
    context.add(greet(name))
    return f"hello {name}"


@job(name="kit_broken", retry=RetryPolicy(backoff=Backoff(base=60, jitter=False)))
async def broken(context: JobContext) -> int:
    if context.attempt == 1:
        raise LookupError("no such order")
    return context.attempt


async def test_the_fixtures_of_the_plugin_serve_an_async_test(
    job_client: JobQueueClient, job_storage: ManualClockStorage
) -> None:
    handle = await job_client.add(greet_async("ann"), delay=60)
    assert_added(job_client, greet_async, name="ann", delay=60)
    assert_not_added(job_client, greet)
    job_storage.clock.advance(60)
    assert (await drain(job_client)).kinds == ["kit_greet_async", "kit_greet"]
    assert await job_client.wait_for(handle, timeout=0) == "hello ann"
    assert_added(job_client, greet("ann"), queue="mail")


def test_the_fixtures_of_the_plugin_serve_a_sync_test(
    sync_job_client: SyncJobQueueClient, job_storage: ManualClockStorage
) -> None:
    threads.clear()
    handle = sync_job_client.add(greet("ann"), delay=60)
    assert_added(sync_job_client, greet, name="ann", delay=60)
    job_storage.clock.advance(60)
    assert drain_sync(sync_job_client).completed == 1
    assert handle.result(timeout=0) == "hello ann"
    assert threads == [threading.current_thread()]


async def test_a_client_of_the_environments_url_shares_the_jobs(job_storage: ManualClockStorage) -> None:
    async with JobQueueClient() as client:
        await client.add(greet("ann"))
    assert_added(job_storage, greet, name="ann")


async def test_an_advance_makes_a_started_worker_run_what_is_due(job_storage: ManualClockStorage) -> None:
    async with JobQueue("mail", storage=job_storage, jobs=[greet]) as queue:
        handle = await queue.add(greet("ann"), delay=3600)
        job_storage.clock.advance(3600)
        assert await queue.wait_for(handle, timeout=20) == "hello ann"
        assert_added(queue, greet, name="ann")


async def test_another_storage_than_memory_is_refused(sqlite_url: str) -> None:
    async with JobQueueClient(sqlite_url) as client:
        with pytest.raises(ConfigurationError, match="on memory storage, not on a SqliteQueueStorage"):
            assert_not_added(client)
        with pytest.raises(ConfigurationError, match="on memory storage"):
            await drain(client)


async def test_an_eager_client_runs_a_job_as_it_is_added() -> None:
    async with EagerJobQueueClient() as client:
        handle = await client.add(greet_async("ann"))
        assert await handle.result(timeout=0) == "hello ann"
        assert assert_added(client, greet).state is JobState.COMPLETED
        assert len(await client.add_many([greet("bob"), greet("eve")])) == 2
        assert_added(client, greet, count=3)


def test_an_eager_sync_client_runs_a_job_in_the_callers_thread() -> None:
    threads.clear()
    with EagerSyncJobQueueClient() as client:
        assert client.add(greet("ann")).result(timeout=0) == "hello ann"
        assert [handle.result(timeout=0) for handle in client.add_many([greet_async("bob")])] == ["hello bob"]
    assert set(threads) == {threading.current_thread()}


async def test_a_job_that_a_handler_adds_by_the_eager_client_runs_in_it() -> None:
    steps: list[str] = []

    @job()
    async def inner() -> None:
        steps.append("inner")

    @job()
    async def outer() -> None:
        await client.add(inner())
        steps.append("outer")

    async with EagerJobQueueClient() as client:
        await client.add(outer())
    assert steps == ["inner", "outer"]


async def test_an_eager_add_raises_what_the_handler_raises_unless_told_otherwise() -> None:
    async with EagerJobQueueClient() as client:
        with pytest.raises(LookupError, match="no such order"):
            await client.add(broken())
    storage = ManualClockStorage()
    async with storage, EagerJobQueueClient(storage, raises=False) as client:
        handle = await client.add(broken())
        assert assert_added(client, broken).state is JobState.SCHEDULED
        storage.clock.advance(60)
        await drain(client)
        assert await handle.result(timeout=0) == 2


PROGRAM = """
from jobq_client import SyncJobQueueClient

def test_it(sync_job_client: SyncJobQueueClient) -> None:
    assert sync_job_client.is_running
"""


def test_the_sync_fixture_needs_no_plugin_for_async_tests(tmp_path: Path) -> None:
    # The guide "Test your app" shows the async one, in the strict mode of pytest-asyncio.
    (tmp_path / "test_it.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
