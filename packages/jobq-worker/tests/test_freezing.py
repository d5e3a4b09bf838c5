"""What lives as long as a worker's process is out of the garbage collector's sight while it runs."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from jobq_core import WorkerStarted, job
from jobq_core.memory import MemoryQueueStorage
from jobq_worker import JobQueueWorker
from jobq_worker.worker import _frozen

from .kit import add


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_what_was_there_is_frozen_and_seen_again_afterwards() -> None:
    with _frozen():
        assert gc.get_freeze_count() > 1000
    assert gc.get_freeze_count() == 0


def test_a_process_that_froze_by_itself_is_left_as_it_is() -> None:
    gc.freeze()
    with _frozen():
        pass
    assert gc.get_freeze_count() > 1000


async def test_a_worker_that_runs_until_a_signal_is_frozen_from_its_start_to_its_end() -> None:
    counts: list[int] = []

    @job()
    async def look() -> None:
        counts.append(gc.get_freeze_count())
        stopping.set()

    stopping = asyncio.Event()
    async with MemoryQueueStorage() as storage:
        worker = JobQueueWorker(storage, jobs=[look])
        started = asyncio.Event()
        worker.once(WorkerStarted, lambda _: started.set())
        running = asyncio.create_task(worker.run())
        await started.wait()
        await add(storage, look())
        await stopping.wait()
        await worker.stop()
        await running
    assert counts[0] > 1000
    assert gc.get_freeze_count() == 0
