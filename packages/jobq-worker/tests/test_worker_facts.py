"""What a worker tells the storage about itself."""

from __future__ import annotations

import platform
from importlib.metadata import version

from jobq_core import RateLimiter, job
from jobq_core.records import WorkerRecord
from jobq_worker.liveness.worker_facts import versions_of

from .kit import add, ending, until, working
from .probe import Probe


@job()
async def quick() -> None: ...


async def read_worker(storage: Probe) -> WorkerRecord:
    [record] = await storage.workers()
    return record


async def beats(storage: Probe, number: int) -> None:
    """Wait until the worker has beaten so many times from now on."""
    before = storage.beats
    await until(lambda: storage.beats >= before + number)


async def test_a_worker_registers_with_its_versions(storage: Probe) -> None:
    async with working(storage, quick):
        assert (await read_worker(storage)).info.versions == {
            "python": platform.python_version(),
            "jobq-core": version("jobq-core"),
            "jobq-worker": version("jobq-worker"),
        }


async def test_a_storage_of_no_distribution_has_no_version() -> None:
    assert "tests" not in versions_of(Probe())


async def test_a_heartbeat_says_whether_notifications_arrive_and_what_memory_is_in_use(storage: Probe) -> None:
    async with working(storage, quick, heartbeat_interval=0.01) as worker:
        await until(lambda: worker.health().hears)
        await beats(storage, 2)  # the first one may have begun before
        stats = (await read_worker(storage)).stats
        assert stats.hears
        assert stats.limited is None
        assert 1_000_000 < stats.memory < 2**40
        storage.deaf = True
        await beats(storage, 2)
        assert not (await read_worker(storage)).stats.hears


async def test_a_heartbeat_says_how_many_slots_there_are_now(storage: Probe) -> None:
    async with working(storage, quick, heartbeat_interval=0.01, concurrency=3) as worker:
        worker.resize(7)
        await beats(storage, 2)
        record = await read_worker(storage)
        assert (record.info.concurrency, record.slots) == (3, 7)


async def test_a_heartbeat_says_how_long_the_limiter_holds_jobs_back(storage: Probe) -> None:
    async def limited() -> float | None:
        return (await read_worker(storage)).stats.limited

    async with working(storage, quick, heartbeat_interval=0.01, limiter=RateLimiter(1, per=60)) as worker:
        await ending(worker, storage, quick())
        await add(storage, quick())
        await until(limited)
        seconds = await limited()
        assert seconds is not None
        assert 0 < seconds <= 60
