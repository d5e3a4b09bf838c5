"""What follows the time of day, which can be set, and what follows the time since booting, which cannot."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from jobq_core.records import WorkerInfo, WorkerStats
from jobq_core.states import JobState
from jobq_core.storage import Claim, Leadership
from jobq_core.testing import ManualClock, add_job, claim_one, new_job, read, register_worker, start_one
from jobq_core.timestamps import to_datetime
from jobq_storage_sqlite import SqliteQueueStorage, boot_clock

DAY = 86_400.0
JUMPS = [7200.0, -7200.0, 30 * DAY]
UP = 5 * DAY
"""Seconds that the machine has been up when a test begins."""


class Machine:
    """A machine's two clocks, and storages that use them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.day = ManualClock()
        self.uptime = ManualClock(UP)

    def storage(self) -> SqliteQueueStorage:
        storage = SqliteQueueStorage(self.path)
        storage._clock, storage._uptime = self.day, self.uptime
        return storage

    def set(self, jump: float) -> None:
        """Set the time of day."""
        self.day.advance(jump)

    def wait(self, seconds: float) -> None:
        self.day.advance(seconds)
        self.uptime.advance(seconds)

    def reboot(self, *, down: float, up: float) -> None:
        """Let the machine be down for some seconds, and then up for some."""
        self.day.advance(down + up)
        self.uptime = ManualClock(up)


@pytest.fixture
def machine(path: Path) -> Machine:
    return Machine(path)


@pytest.fixture
async def storage(machine: Machine) -> AsyncIterator[SqliteQueueStorage]:
    async with machine.storage() as storage:
        yield storage


async def beat(storage: SqliteQueueStorage, worker: WorkerInfo) -> bool:
    return await asyncio.to_thread(storage.heartbeat(worker).beat, WorkerStats())


async def alive(storage: SqliteQueueStorage, worker: WorkerInfo) -> bool:
    return (await storage.settle_and_claim(worker.id, (), Claim.of("empty", limit=1))).alive


@pytest.mark.parametrize("jump", JUMPS)
async def test_a_clock_set_between_heartbeats_neither_ends_nor_prolongs_a_life(
    storage: SqliteQueueStorage, machine: Machine, jump: float
) -> None:
    living, dead = [await register_worker(storage, lost_after=30) for _ in range(2)]
    jobs = [await add_job(storage) for _ in range(2)]
    for worker in (living, dead):
        await start_one(storage, worker)
    machine.set(jump)
    assert (await storage.rescue()).workers == []
    assert await alive(storage, living)
    assert await alive(storage, dead)
    machine.wait(20)
    assert await beat(storage, living)
    machine.set(-jump)
    machine.wait(9.999)
    assert (await storage.rescue()).workers == []
    assert await alive(storage, dead)
    machine.wait(0.001)
    assert not await alive(storage, dead)
    [lost] = (await storage.rescue()).workers
    assert (lost.worker, lost.silent_for) == (dead.id, 30)
    assert [job.id for job in lost.jobs] == [jobs[1]]
    assert await alive(storage, living)
    assert (await read(storage, jobs[0])).state is JobState.PROCESSING
    assert not await beat(storage, dead)


@pytest.mark.parametrize("jump", JUMPS)
async def test_the_lead_changes_hands_after_its_term_and_not_before(
    storage: SqliteQueueStorage, machine: Machine, jump: float
) -> None:
    leader, other = [await register_worker(storage) for _ in range(2)]
    assert await storage.lead(leader.id, 10) == Leadership(True, 10)
    machine.set(jump)
    assert await storage.lead(other.id, 10) == Leadership(False, 10)
    machine.wait(6)
    assert await storage.lead(leader.id, 10) == Leadership(True, 10)
    machine.set(-jump)
    machine.wait(9)
    assert await storage.lead(other.id, 10) == Leadership(False, 1)
    machine.wait(1)
    assert await storage.lead(other.id, 10) == Leadership(True, 10)


@pytest.mark.parametrize("set_back", [0.0, 7200.0])
async def test_jobs_held_before_the_machine_booted_are_rescued_at_once(
    storage: SqliteQueueStorage, machine: Machine, set_back: float
) -> None:
    worker = await register_worker(storage, lost_after=30)
    job = await add_job(storage)
    await start_one(storage, worker)
    assert await storage.lead(worker.id, 10) == Leadership(True, 10)
    machine.reboot(down=60, up=5)
    machine.set(-set_back)
    async with machine.storage() as after:
        assert await after.lead((await register_worker(after)).id, 10) == Leadership(True, 10)
        [lost] = (await after.rescue()).workers
        assert (lost.worker, [rescued.id for rescued in lost.jobs]) == (worker.id, [job])
        assert lost.silent_for == (0 if set_back else 65)


@pytest.mark.parametrize(("lived", "up"), [(20, 5), (20, 20), (20, 49), (200, 190), (200, 229)])
async def test_a_lease_of_an_equal_uptime_before_the_boot_is_over_within_twice_its_length(
    storage: SqliteQueueStorage, machine: Machine, lived: float, up: float
) -> None:
    machine.uptime = ManualClock(lived)
    storage._uptime = machine.uptime
    worker = await register_worker(storage, lost_after=30)
    assert (await storage.lead(worker.id, 30)).leads
    machine.reboot(down=10, up=up)
    async with machine.storage() as after:
        other = await register_worker(after, lost_after=1000)
        assert (await after.rescue()).workers == []
        leadership = await after.lead(other.id, 30)
        assert not leadership.leads
        assert 0 < leadership.expires_in == lived + 30 - up <= 60
        machine.wait(leadership.expires_in)
        assert [lost.worker for lost in (await after.rescue()).workers] == [worker.id]
        assert (await after.lead(other.id, 30)).leads


async def test_shown_times_and_due_jobs_follow_the_time_of_day(storage: SqliteQueueStorage, machine: Machine) -> None:
    worker = await register_worker(storage, lost_after=30)
    later = new_job(run_at=3600.0)
    await storage.add([later])
    machine.set(7200)
    assert await beat(storage, worker)
    [shown] = await storage.workers()
    now = await storage.now()
    assert now == to_datetime(int(machine.day() * 1_000_000))
    assert (shown.beat_at, shown.expires_at) == (now, now + timedelta(seconds=30))
    assert now - shown.started_at == timedelta(seconds=7200)
    assert (await storage.promote()).promoted == 1
    assert (await claim_one(storage, worker)).id == later.id


def test_all_processes_of_a_machine_read_the_same_uptime() -> None:
    before = boot_clock.uptime()
    code = "from jobq_storage_sqlite import boot_clock; print(boot_clock.uptime())"
    there = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert before < there < boot_clock.uptime()


@pytest.mark.parametrize(
    ("text", "ahead"),
    [
        ("monotonic           0         0\nboottime            0         0\n", 0.0),
        ("monotonic   -5  0\nboottime    86400         7\n", 86_400.000_000_007),
        ("boottime   -2 999999999\n", -1.000_000_001),
        ("", 0.0),
    ],
)
def test_the_offset_of_a_time_namespace_is_subtracted(tmp_path: Path, text: str, ahead: int) -> None:
    offsets = tmp_path / "timens_offsets"
    offsets.write_text(text)
    assert boot_clock._ahead(offsets) == pytest.approx(ahead, abs=1e-12, rel=0)


def test_without_a_file_of_offsets_the_offset_is_zero(tmp_path: Path) -> None:
    assert boot_clock._ahead(tmp_path / "missing") == 0
