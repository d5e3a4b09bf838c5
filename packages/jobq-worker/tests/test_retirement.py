"""Workers that end by themselves: `burst`, `max_jobs`, `max_memory`."""

from __future__ import annotations

from typing import Any

import pytest

from jobq_core import ConfigurationError, JobState, job
from jobq_core.events import EventSource
from jobq_core.storage import QueueOptions
from jobq_worker import JobQueueWorker, WorkerOptions
from jobq_worker.processes.retirement import Retired, Retirement
from jobq_worker.sizes import check_size, resident_bytes

from .kit import add, add_many, state
from .probe import Probe


@job()
async def quick() -> int:
    return 1


@job()
def in_thread() -> int:
    return 1


@job()
async def adds_another(storage_key: int) -> None:
    await add(STORAGES[storage_key], quick())


STORAGES: dict[int, Probe] = {}


async def ran(storage: Probe, *jobs: Any, **options: Any) -> JobQueueWorker:
    """Run a worker until it ends by itself."""
    worker = JobQueueWorker(storage, jobs=jobs, poll_interval=0.02, **options)
    await worker.run()
    return worker


async def test_a_burst_runs_what_is_there_and_ends(storage: Probe) -> None:
    ids = await add_many(storage, [quick() for _ in range(50)] + [in_thread() for _ in range(5)])
    worker = await ran(storage, quick, in_thread, burst=True)
    assert worker.retired is Retired.EMPTY
    assert [await state(storage, one) for one in ids] == [JobState.COMPLETED] * 55


async def test_a_burst_runs_what_its_jobs_add(storage: Probe) -> None:
    STORAGES[id(storage)] = storage
    await add(storage, adds_another(id(storage)))
    worker = await ran(storage, quick, adds_another, burst=True)
    assert worker.pool_stats().total.completed == 2


async def test_a_burst_of_nothing_ends(storage: Probe) -> None:
    assert (await ran(storage, quick, burst=True)).retired is Retired.EMPTY


async def test_a_burst_waits_neither_for_later_nor_for_paused_queues_nor_for_unknown_kinds(storage: Probe) -> None:
    await storage.set_queue("paused", QueueOptions(paused=True), "operator")
    await add(storage, quick(), delay=3600)
    await add(storage, quick(), queue="paused")
    await add(storage, in_thread())
    worker = await ran(storage, quick, queues=["default", "paused"], burst=True)
    assert worker.pool_stats().total.completed == 0


async def test_after_max_jobs_no_other_starts(storage: Probe) -> None:
    await add_many(storage, [quick() for _ in range(50)])
    worker = await ran(storage, quick, max_jobs=7, concurrency=20)
    assert worker.retired is Retired.MAX_JOBS
    assert worker.pool_stats().total.completed == 7
    assert (await storage.counts())["default"][JobState.PENDING] == 43


async def test_a_worker_above_max_memory_ends(storage: Probe) -> None:
    assert (await ran(storage, quick, max_memory=1)).retired is Retired.MAX_MEMORY


async def test_memory_is_read_again_until_it_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobq_worker.processes.retirement.CHECK_SECONDS", 0.001)
    readings = iter([10, 100, 101])
    with Retirement(WorkerOptions(max_memory=100), EventSource(), lambda: None, lambda: next(readings)) as retirement:
        assert await retirement.wait(lambda: False) is Retired.MAX_MEMORY
    assert next(readings, None) is None


@pytest.mark.parametrize(
    ("text", "size"), [(5, 5), ("7", 7), ("500MB", 500_000_000), ("2 GiB", 2 << 30), ("1.5k", 1500), ("3mib", 3 << 20)]
)
def test_sizes(text: str | int, size: int) -> None:
    assert WorkerOptions(max_memory=text).max_memory == size


@pytest.mark.parametrize("value", ["", "MB", "5 bananas", 0, -1, True, 1.5, "0MB", None])
def test_what_is_not_a_size_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_memory must be a number of bytes, or text such as '500MB'"):
        check_size(value, "max_memory")


def test_the_memory_of_this_process_is_read() -> None:
    assert 1 << 20 < resident_bytes() < 1 << 40
