from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock
from uuid import UUID, uuid4

import pytest

from jobq_client import JobQueueClient, clock_offset
from jobq_core import ClosedError, ConfigurationError, JobState, StorageUnavailableError, WaitTimeoutError

from .helpers import Probe
from .jobs import convert, keep


def made_at(job_id: UUID) -> float:
    """Seconds since 1970 that a UUIDv7 carries."""
    return (job_id.int >> 80) / 1000


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


async def test_a_url_that_cannot_work_is_refused_where_it_is_written() -> None:
    with pytest.raises(ConfigurationError, match="nothing://"):
        JobQueueClient("nothing://x")


@pytest.mark.parametrize(
    ("name", "value"),
    [("queue", ""), ("patience", -1), ("patience", "x"), ("poll", 0), ("poll", float("inf")), ("poll", timedelta(0))],
)
async def test_an_option_that_cannot_work_is_refused(name: str, value: Any) -> None:
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


async def test_a_client_that_is_not_running_says_so() -> None:
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
    async with asyncio.timeout(0.5):
        await client.stop()


@pytest.mark.parametrize("ahead", [-7200.0, 0.0, 7200.0])
async def test_ids_carry_the_storages_time_whatever_this_machines_clock_says(ahead: float) -> None:
    async with Probe(clock=lambda: time.time() + ahead) as storage, JobQueueClient(storage) as client:
        handles = [await client.add(keep(1)), *await client.add_many([keep(2)])]
        for handle in handles:
            assert abs(made_at(handle.id) - (await storage.now()).timestamp()) < 1


async def test_the_storages_time_is_that_of_the_middle_of_the_round_trip(
    storage: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The machine has been up for 500 s, and its clock says 1000; the answer takes 4.
    up = iter([500.0, 500.0, 504.0])
    monkeypatch.setattr(clock_offset, "time", SimpleNamespace(time=lambda: 1000.0, monotonic=lambda: next(up)))
    monkeypatch.setattr(storage, "now", AsyncMock(return_value=datetime.fromtimestamp(1052.0, UTC)))
    measured = clock_offset.ClockOffset(storage)
    await measured.measure()
    monkeypatch.setattr(clock_offset, "time", SimpleNamespace(time=lambda: 1004.0, monotonic=lambda: 504.0))
    assert await measured.read() == (50.0, 1004.0)


async def test_a_clock_that_is_set_while_the_storages_time_is_taken_is_found_out_by_the_next_add(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = 0.0
    real = time.time
    async with Probe(clock=real) as storage, JobQueueClient(storage) as client:
        monkeypatch.setattr("time.time", lambda: real() + wrong)
        session = client._running()
        gate = storage.hold("now")
        asked = asyncio.create_task(session.clock_offset.measure())
        await asyncio.sleep(0)
        wrong = 7200.0
        gate.set()
        await asked
        found = await session.clock_offset.read()
        assert abs(found.offset + 7200) < 1
        assert abs(found.offset + found.now - real()) < 1


async def test_a_clock_that_is_set_between_the_look_at_it_and_the_making_of_an_id_moves_no_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0
    real = time.time

    def wrong_later() -> float:
        nonlocal looks
        looks += 1
        return real() - (0.0 if looks > 1 else 7200.0)

    async with Probe(clock=lambda: real() - 7200.0) as storage:
        monkeypatch.setattr("time.time", lambda: real() - 7200.0)
        async with JobQueueClient(storage) as client:
            # From the second look on the clock is right; the library's, with which ids are made, always was.
            monkeypatch.setattr("time.time", wrong_later)
            for handle in (await client.add(keep(1)), *await client.add_many([keep(2)])):
                assert abs(made_at(handle.id) - (await storage.now()).timestamp()) < 1


async def test_an_offset_below_what_measuring_is_good_for_is_none(storage: Probe) -> None:
    measured = clock_offset.ClockOffset(storage)
    await measured.measure()
    assert (await measured.read()).offset == 0.0


async def test_the_offset_is_taken_again_when_this_machines_clock_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = 0.0
    real = time.time
    async with Probe(clock=real) as storage, JobQueueClient(storage) as client:
        monkeypatch.setattr("time.time", lambda: real() + wrong)
        wrong = 3600.0
        assert storage.calls["now"] == 1
        await client.add(keep(1))
        await client.add(keep(1))
        assert storage.calls["now"] == 2
        # uuid-utils reads the machine's own clock, which only seems to be set here.
        session = client._running()
        assert abs((await session.clock_offset.read()).offset + 3600) < 1


async def test_the_offset_is_taken_again_now_and_then_without_keeping_an_add_waiting(
    storage: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with JobQueueClient(storage) as client:
        monkeypatch.setattr(clock_offset, "MEASURE_EVERY", 0.0)
        session = client._running()
        session.clock_offset._due = 0.0
        gate = storage.hold("now")
        await client.add(keep(1))
        monkeypatch.undo()
        await asyncio.sleep(0)
        assert storage.calls["now"] == 2
        gate.set()


async def test_a_clock_that_cannot_be_read_again_stops_no_add(
    storage: Probe, client: JobQueueClient, caplog: pytest.LogCaptureFixture
) -> None:
    session = client._running()
    session.clock_offset._skew -= 10
    storage.fail("now")
    handle = await client.add(keep(1))
    assert handle.created
    assert "could not read the storage clock" in caplog.text
    await client.add(keep(1))
    assert storage.calls["now"] == 2


async def test_a_measurement_under_way_ends_with_the_client(storage: Probe) -> None:
    client = JobQueueClient(storage)
    await client.start()
    client._running().clock_offset._due = 0.0
    storage.hold("now")
    await client.add(keep(1))
    before = asyncio.all_tasks()
    await client.stop()
    assert len(before) == 2
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_importing_the_client_brings_no_worker_server_storage_or_command_line() -> None:
    script = "import sys, jobq_client; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"jobq_worker", "jobq_server", "jobq_core.memory", "click", "rich", "sqlite3", "psycopg", "aiosqlite"}
    seldom = {"hashlib", "importlib.metadata", "importlib.resources", "json", "urllib.parse"}
    assert (heavy | seldom).isdisjoint(modules)
