"""The sync client on each storage, beside workers and through forks."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from shop_jobs import add_up

from jobq_client import SyncJobQueueClient
from jobq_core import JobCompleted, open_storage
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
