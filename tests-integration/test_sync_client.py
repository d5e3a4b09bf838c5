"""The sync client on each storage, beside workers and through forks."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest
from shop_jobs import add_up

from jobq_client import SyncJobQueueClient
from jobq_core import JobCompleted, StorageUnavailableError, open_storage
from jobq_storage_postgres.testing import ThrowawayPostgres
from jobq_worker import JobQueueWorker

FORKING = Path(__file__).parents[1] / "packages" / "jobq-client" / "tests" / "programs" / "forking.py"


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def any_url(request: pytest.FixtureRequest) -> str:
    """The URL of a storage with its tables."""
    if request.param == "memory":
        return f"memory://{request.node.name}"
    url = str(request.getfixturevalue(f"{request.param}_url"))
    asyncio.run(open_storage(url).migrate())
    return url


@pytest.fixture
def running_worker(any_url: str) -> Iterator[None]:
    """A worker on an event loop of its own."""
    started, stopping = threading.Event(), threading.Event()

    async def run() -> None:
        async with JobQueueWorker(any_url, jobs=[add_up]):
            started.set()
            await asyncio.to_thread(stopping.wait)

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(asyncio.run, run())
        assert started.wait(20)
        yield
        stopping.set()
        running.result()


@pytest.mark.usefixtures("running_worker")
def test_threads_add_jobs_and_get_their_results_and_events(any_url: str) -> None:
    with SyncJobQueueClient(any_url) as client, client.events(JobCompleted) as completed:

        def use(number: int) -> int:
            return client.add(add_up(a=number, b=number)).result(timeout=30)

        with ThreadPoolExecutor(10) as threads:
            assert list(threads.map(use, range(50))) == [2 * number for number in range(50)]
        assert len({next(completed).job_id for _ in range(50)}) == 50
        handles = client.add_many([add_up(a=number, b=1) for number in range(3)], unique="once")
        assert len(set(handles)) == 1
        assert handles[0].result(timeout=30) == 1
        assert len(list(client.find_all(kind=add_up, page_size=10))) == 51


def test_a_client_that_threads_use_at_a_fork_works_in_the_parent_and_in_the_children(any_url: str) -> None:
    command = [sys.executable, "-W", "ignore", str(FORKING), any_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


def test_adds_from_threads_lose_and_double_no_job_when_the_server_crashes() -> None:
    with ThrowawayPostgres() as server:
        asyncio.run(open_storage(server.dsn).migrate())
        stopping, progress = threading.Event(), threading.Semaphore(0)

        def add_until_stopped() -> list[UUID]:
            added: list[UUID] = []
            while not stopping.is_set():
                added.append(client.add(add_up(a=1, b=1)).id)
                progress.release()
            return added

        def wait_for_more() -> None:
            while progress.acquire(blocking=False):
                continue
            for _ in range(50):
                assert progress.acquire(timeout=30)

        with SyncJobQueueClient(server.dsn, patience=60) as client, ThreadPoolExecutor(8) as threads:
            adders = [threads.submit(add_until_stopped) for _ in range(8)]
            for _ in range(2):
                wait_for_more()
                server.halt(at_once=True)
                server.start()
            wait_for_more()
            stopping.set()
            added = [one for adder in adders for one in adder.result()]
            assert len(set(added)) == len(added)
            assert client.size() == len(added)
        with SyncJobQueueClient(server.dsn, patience=0) as client:
            client.add(add_up(a=1, b=1))
            server.halt(at_once=True)
            for options in ({}, {"unique": "once"}):
                with pytest.raises(StorageUnavailableError):
                    client.add(add_up(a=1, b=1), **options)  # type: ignore[arg-type]
            server.start()
            client.add(add_up(a=1, b=1))
            assert client.size() == len(added) + 2
