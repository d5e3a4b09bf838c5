"""Operations on many jobs: in slices, each committed by itself, so that others write in between."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from jobq_core.states import JobState
from jobq_core.testing import ManualClock, add_job, claim, new_job, register_worker, settle
from jobq_storage_sqlite import SqliteQueueStorage, control, slices


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE", 10)
    monkeypatch.setattr(control, "SLICE", 10)


async def unfinished(storage: SqliteQueueStorage, queue: str) -> int:
    counts = (await storage.counts(queue))[queue]
    return counts[JobState.PENDING] + counts[JobState.PROCESSING]


class Meanwhile:
    """Adds a job with each report of progress, and remembers which adds were committed by the next report."""

    def __init__(self, storage: SqliteQueueStorage, queue: str) -> None:
        self.reports: list[int] = []
        self.committed: list[bool] = []
        self._storage = storage
        self._queue = queue
        self._task: asyncio.Task[object] | None = None

    async def kept(self) -> int:
        """Return how many of these jobs are unfinished, once all are added."""
        assert self._task is not None
        await self._task
        return await unfinished(self._storage, self._queue)

    def __call__(self, changed: int) -> None:
        self.reports.append(changed)
        if self._task is not None:
            self.committed.append(self._task.done())
        self._task = asyncio.create_task(self._storage.add([new_job(queue=self._queue, run_id="nightly")]))


async def test_clear_removes_a_queue_in_slices_and_lets_others_write_in_between(storage: SqliteQueueStorage) -> None:
    await storage.add([new_job() for _ in range(25)])
    meanwhile = Meanwhile(storage, "default")
    assert await storage.clear("default", on_progress=meanwhile) == 25
    assert meanwhile.reports == [10, 20, 25]
    assert meanwhile.committed == [True, True]
    assert await meanwhile.kept() == 3, "jobs that were added meanwhile are not part of it"


async def test_a_clear_that_ended_early_can_be_repeated(storage: SqliteQueueStorage) -> None:
    await storage.add([new_job() for _ in range(25)])

    def end(_: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        await storage.clear("default", on_progress=end)
    assert await unfinished(storage, "default") == 15
    assert await storage.clear("default") == 15


async def test_clear_removes_jobs_of_every_state(storage: SqliteQueueStorage) -> None:
    worker = await register_worker(storage)
    await storage.add([new_job() for _ in range(12)])
    claimed = await claim(storage, worker, limit=6)
    await settle(storage, worker, claimed[0])
    await storage.abort([claimed[1].id])
    await storage.add([new_job(run_at=3600.0), new_job(queue="other")])
    await storage.disable([await add_job(storage)])
    assert await storage.clear("default") == 14
    assert set((await storage.counts("default"))["default"].values()) == {0}
    assert await unfinished(storage, "other") == 1


async def test_abort_run_works_in_slices_and_lets_others_write_in_between(storage: SqliteQueueStorage) -> None:
    await storage.add([new_job(run_id="nightly") for _ in range(25)])
    meanwhile = Meanwhile(storage, "other")
    changes = await storage.abort_run("nightly", on_progress=meanwhile)
    assert len(changes) == 25
    assert {change.after for change in changes} == {JobState.ABORTED}
    assert meanwhile.reports == [10, 20, 25]
    assert meanwhile.committed == [True, True]
    assert await meanwhile.kept() == 3, "jobs that were added meanwhile are not part of it"


async def test_prune_works_in_slices_up_to_its_limit(path: Path) -> None:
    clock = ManualClock()
    storage = SqliteQueueStorage(path)
    storage._clock = storage._uptime = clock
    async with storage:
        worker = await register_worker(storage)
        await storage.add([new_job() for _ in range(24)])
        for job in await claim(storage, worker):
            await settle(storage, worker, job)
        clock.advance(2 * 86_400)
        assert [await storage.prune(limit=17) for _ in range(3)] == [17, 7, 0]
        assert await storage.counts() == {}
