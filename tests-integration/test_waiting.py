"""Results and progress across processes: the worker is always a child process, the client sometimes."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from shop_jobs import add_up, at_gate, count, in_steps
from watching import Gate, Log

from jobq_client import JobQueueClient
from jobq_core import (
    ClosedError,
    InvalidJobError,
    JobCompleted,
    JobContext,
    JobNotFoundError,
    Progress,
    WaitTimeoutError,
)

WAITER = Path(__file__).parent / "support" / "waiter.py"


def start_worker(children: Any, url: str, *more: str) -> Any:
    """Start a worker and wait until it claims jobs."""
    worker = children.jobq("worker", "shop_jobs", "--storage", url, *more)
    worker.wait_for_line("started")
    return worker


async def test_a_result_arrives_from_a_worker_in_another_process(migrated_url: str, children: Any) -> None:
    start_worker(children, migrated_url)
    async with JobQueueClient(migrated_url) as client:
        assert await client.wait_for(await client.add(add_up(a=1, b=2)), timeout=30) == 3


async def test_a_job_added_before_any_worker_runs_when_one_starts(migrated_url: str, children: Any) -> None:
    async with JobQueueClient(migrated_url) as client:
        handle = await client.add(add_up(a=1, b=2))
        with pytest.raises(WaitTimeoutError):
            await client.wait_for(handle, timeout=0)
        start_worker(children, migrated_url)
        assert await client.wait_for(handle, timeout=30) == 3


async def test_a_waiter_that_starts_after_the_job_finished_has_its_result(migrated_url: str, children: Any) -> None:
    start_worker(children, migrated_url)
    async with JobQueueClient(migrated_url) as client:
        handle = await client.add(add_up(a=1, b=2))
        await client.wait_for(handle, timeout=30)
    waiter = children.python(WAITER, migrated_url, str(handle.id))
    assert waiter.wait_for_line(r"result (\d+)")[1] == "3"
    assert waiter.wait() == 0, waiter.output


async def test_a_waiter_that_starts_before_the_job_finishes_has_its_result(
    migrated_url: str, children: Any, tmp_path: Path
) -> None:
    gate, log = Gate(tmp_path / "gate"), Log(tmp_path / "log")
    start_worker(children, migrated_url)
    async with JobQueueClient(migrated_url) as client:
        handle = await client.add(at_gate(gate=str(gate), log=str(log), name="one"))
        waiter = children.python(WAITER, migrated_url, str(handle.id))
        waiter.wait_for_line("waiting")
        await log.has("started one")
        gate.open()
        assert waiter.wait_for_line(r"result (\w+)")[1] == "one"
        assert waiter.wait() == 0
        # The end of the job was reported once, although two waiters waited for it.
        assert waiter.output.count(f"event {handle.id}") == 1


async def test_a_thousand_waiters_get_a_thousand_ends_from_other_processes_once_each(
    migrated_url: str, children: Any, tmp_path: Path
) -> None:
    log = Log(tmp_path / "log")
    told: Counter[object] = Counter()
    async with JobQueueClient(migrated_url) as client:
        client.on(JobCompleted, lambda event: told.update([event.job_id]))
        handles = await client.add_many([count(log=str(log), n=n) for n in range(1000)])
        waits = [asyncio.create_task(client.wait_for(handle, timeout=60)) for handle in handles]
        start_worker(children, migrated_url)
        assert await asyncio.gather(*waits) == list(range(1000))
    assert told == Counter(handle.id for handle in handles)


async def test_progress_reaches_a_client_in_another_process(migrated_url: str, children: Any, tmp_path: Path) -> None:
    start_worker(children, migrated_url)
    async with JobQueueClient(migrated_url) as client:
        handle = await client.add(in_steps(folder=str(tmp_path)))
        seen: asyncio.Queue[Progress] = asyncio.Queue()
        client.on_progress(handle, seen.put_nowait)
        for percent in (10, 50, 90):
            Gate(tmp_path / str(percent)).open()
            progress = await asyncio.wait_for(seen.get(), timeout=30)
            assert progress == Progress(percent=percent, message=f"step {percent}", details={"percent": percent})
        Gate(tmp_path / "end").open()
        assert await client.wait_for(handle, timeout=30) == "all steps"
        assert (await client.progress_of(handle)).percent == 90
        assert seen.empty()


async def test_listeners_get_only_the_events_of_their_job(migrated_url: str, children: Any, tmp_path: Path) -> None:
    start_worker(children, migrated_url)
    folders = [tmp_path / name for name in ("one", "two", "three")]
    async with JobQueueClient(migrated_url) as client:
        handles = []
        for folder in folders:
            folder.mkdir()
            handles.append(await client.add(in_steps(folder=str(folder))))
        seen: list[list[float]] = [[], [], []]
        arrived: asyncio.Queue[int] = asyncio.Queue()

        def listener(index: int) -> Any:
            def hear(progress: Progress) -> None:
                seen[index].append(progress.percent)
                arrived.put_nowait(index)

            return hear

        cancels = [client.on_progress(handle, listener(index)) for index, handle in enumerate(handles)]
        Gate(folders[1] / "10").open()
        assert await asyncio.wait_for(arrived.get(), timeout=30) == 1
        cancels[1]()
        Gate(folders[1] / "50").open()
        Gate(folders[0] / "10").open()
        assert await asyncio.wait_for(arrived.get(), timeout=30) == 0
        for folder in folders:
            for gate in ("10", "50", "90", "end"):
                Gate(folder / gate).open()
        for handle in handles:
            await client.wait_for(handle, timeout=30)
    assert seen[1] == [10]
    assert set(seen[0]) <= {10, 50, 90}


async def test_waiting_for_an_unknown_job_raises(migrated_url: str) -> None:
    async with JobQueueClient(migrated_url) as client:
        with pytest.raises(JobNotFoundError):
            await client.wait_for("0192f0c1-5e6b-7c3a-9f00-000000000000", timeout=30)


async def test_a_client_that_closes_ends_its_waits(migrated_url: str) -> None:
    async with JobQueueClient(migrated_url) as client:
        waiting = asyncio.create_task(client.wait_for(await client.add(add_up(a=1, b=2))))
        await asyncio.sleep(0)
    with pytest.raises(ClosedError):
        await waiting


@pytest.mark.parametrize("percent", [-0.1, 100.1, float("nan")])
def test_the_handler_gets_the_error_for_progress_out_of_range(percent: float) -> None:
    with pytest.raises(InvalidJobError, match="from 0 to 100"):
        JobContext().progress(percent)
