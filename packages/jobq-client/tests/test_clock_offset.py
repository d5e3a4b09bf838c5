"""The offset of the storage's clock, and the ids that carry its time."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from unittest.mock import AsyncMock
from uuid import UUID

import pytest

from jobq_client import JobQueueClient, clock_offset

from .helpers import Probe, until
from .jobs import keep


def made_at(job_id: UUID) -> float:
    """Seconds since 1970 that a UUIDv7 carries."""
    return (job_id.int >> 80) / 1000


@pytest.mark.parametrize("ahead", [-7200.0, 0.0, 7200.0])
async def test_ids_carry_the_storages_time_whatever_this_machines_clock_says(ahead: float) -> None:
    async with Probe(clock=lambda: time.time() + ahead) as storage, JobQueueClient(storage) as client:
        handles = [await client.add(keep(1)), *await client.add_many([keep(2)])]
        for handle in handles:
            assert abs(made_at(handle.id) - (await storage.now()).timestamp()) < 1


async def test_the_storages_time_counts_for_the_middle_of_the_round_trip(
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


async def test_a_clock_set_during_a_measurement_is_noticed_by_the_next_add(
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


async def test_a_clock_set_between_reading_it_and_making_an_id_moves_no_id(
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
            # From the second reading on the clock is right; the one that ids are made with always was.
            monkeypatch.setattr("time.time", wrong_later)
            for handle in (await client.add(keep(1)), *await client.add_many([keep(2)])):
                assert abs(made_at(handle.id) - (await storage.now()).timestamp()) < 1


async def test_an_offset_within_the_measurements_error_counts_as_0(storage: Probe) -> None:
    measured = clock_offset.ClockOffset(storage)
    await measured.measure()
    assert (await measured.read()).offset == 0.0


async def test_the_offset_is_measured_again_when_this_machines_clock_is_set(
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
        session = client._running()
        assert abs((await session.clock_offset.read()).offset + 3600) < 1


async def test_a_regular_measurement_does_not_delay_an_add(storage: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_a_failed_measurement_does_not_stop_an_add(
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


async def test_an_unexpected_error_of_a_measurement_in_the_background_is_logged(
    storage: Probe, client: JobQueueClient, caplog: pytest.LogCaptureFixture
) -> None:
    client._running().clock_offset._due = 0.0
    storage.fail("now", RuntimeError("odd"))
    assert (await client.add(keep(1))).created
    await until(lambda: bool(caplog.messages))
    assert caplog.messages == ["measuring the storage clock failed; keeping the previous offset"]


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
