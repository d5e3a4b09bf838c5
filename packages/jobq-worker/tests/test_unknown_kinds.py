from __future__ import annotations

import pytest

from jobq_core import JobCompleted, JobState, job
from jobq_core.storage import UNKNOWN_KIND
from jobq_worker.unknown_kinds import UnknownKinds

from .kit import Endings, add, add_many, ending, record, until, working
from .probe import Probe


@job()
async def known() -> None: ...


@job()
async def foreign(n: int = 0) -> int:
    return n


async def test_a_job_of_an_unknown_kind_stays_for_a_worker_that_knows_it(storage: Probe) -> None:
    async with working(storage, known, name="plain") as worker:
        job_id = await add(storage, foreign(5))
        await until(lambda: worker.pool_stats().total.unknown_kinds)
        assert worker.pool_stats().total.unknown_kinds == {"foreign": 1}
        assert isinstance(await ending(worker, storage, known()), JobCompleted)  # and crashes nobody
        found = await record(storage, job_id)
        assert (found.state, found.reason, found.attempt) == (JobState.BLOCKED, UNKNOWN_KIND, 0)
        async with working(storage, foreign, name="knows") as other:
            assert isinstance(await Endings(other).of(job_id), JobCompleted)


async def test_the_statistics_that_the_storage_has_show_them_too(storage: Probe) -> None:
    async with working(storage, known, heartbeat_interval=0.01) as worker:
        await add_many(storage, [foreign(), foreign()])
        await until(lambda: worker.pool_stats().total.unknown_kinds.get("foreign") == 2)
        beats = storage.beats
        await until(lambda: storage.beats > beats + 1)
        [registered] = await storage.workers()
        assert registered.stats.unknown_kinds == {"foreign": 2}


def test_the_wait_doubles_from_one_second_to_a_minute_as_waits_pass(caplog: pytest.LogCaptureFixture) -> None:
    counts: dict[str, int] = {}
    unknown = UnknownKinds(counts)
    assert [unknown.delay("x", now=0.0) for _ in range(3)] == [1, 1, 1]  # a thousand at once are one look
    now, delays = 0.0, []
    for _ in range(9):
        delays.append(unknown.delay("x", now))
        now += delays[-1]
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert unknown.delay("y", now) == 1
    assert counts == {"x": 12, "y": 1}
    assert len(caplog.records) == 2  # one line for each kind
