"""Ids carry the storage's time; its clock is measured without delaying an add."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import pytest

from jobq_client import JobQueueClient

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


async def test_the_offset_is_corrected_at_once_and_measured_again_when_this_machines_clock_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = 0.0
    real = time.time
    async with Probe(clock=real) as storage, JobQueueClient(storage) as client:
        monkeypatch.setattr("time.time", lambda: real() + wrong)
        wrong = 3600.0
        gate = storage.hold("now")
        handle = await client.add(keep(1))
        assert abs(made_at(handle.id) - real()) < 1
        assert storage.calls["now"] == 2
        gate.set()
        await client.add(keep(1))
        assert storage.calls["now"] == 2


async def test_a_measurement_that_is_due_does_not_delay_an_add(storage: Probe, client: JobQueueClient) -> None:
    client._running().clock_offset.postpone(0.0)
    gate = storage.hold("now")
    await client.add(keep(1))
    await client.add_many([keep(1)])
    assert storage.calls["now"] == 2
    gate.set()


async def test_a_failed_measurement_does_not_stop_an_add_and_is_repeated_later(
    storage: Probe, client: JobQueueClient, caplog: pytest.LogCaptureFixture
) -> None:
    client._running().clock_offset.postpone(0.0)
    storage.fail("now")
    assert (await client.add(keep(1))).created
    await until(lambda: bool(caplog.messages))
    assert "could not read the storage clock; keeping the previous offset" in caplog.text
    await client.add(keep(1))
    assert storage.calls["now"] == 2
    client._running().clock_offset.postpone(0.0)
    await client.add(keep(1))
    await until(lambda: storage.calls["now"] == 3)


async def test_an_unexpected_error_of_a_measurement_in_the_background_is_logged(
    storage: Probe, client: JobQueueClient, caplog: pytest.LogCaptureFixture
) -> None:
    client._running().clock_offset.postpone(0.0)
    storage.fail("now", RuntimeError("odd"))
    assert (await client.add(keep(1))).created
    await until(lambda: bool(caplog.messages))
    assert caplog.messages == ["measuring the storage clock failed; keeping the previous offset"]


async def test_a_measurement_under_way_ends_with_the_client(storage: Probe) -> None:
    client = JobQueueClient(storage)
    await client.start()
    client._running().clock_offset.postpone(0.0)
    storage.hold("now")
    await client.add(keep(1))
    before = asyncio.all_tasks()
    await client.stop()
    assert len(before) == 2
    assert asyncio.all_tasks() == {asyncio.current_task()}
