"""A database that was restored, or promoted before it had all: it may give a lease number again."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from jobq_core import JobCompleted, JobContext, job

from .kit import Endings, Stage, add, record, until, working
from .probe import Probe


@pytest.mark.parametrize("nature", ["async", "thread"])
async def test_a_run_under_a_number_that_is_given_again_takes_nothing_from_the_new_one(
    storage: Probe, stage: Stage, nature: str
) -> None:
    if nature == "async":

        @job(name="gated")
        async def gated(n: int) -> int:
            stage.reach(f"started {n}")
            await stage.reached("go on")
            return n
    else:

        @job(name="gated")
        def gated(context: JobContext, n: int) -> int:
            stage.reach(f"started {n}")
            while not stage._gates["go on"].wait(0.01):
                context.check_aborted()
            return n

    async with asyncio.timeout(20), working(storage, gated, concurrency=2) as worker:
        endings = Endings(worker)
        former = await add(storage, gated(1))
        await stage.reached("started 1")
        lease = (await record(storage, former)).lease
        assert lease is not None
        # The database is one in which this never was, and the worker has not been told yet.
        answer = storage.hold("check_leases")
        await storage.delete([former])
        storage._store.leases = itertools.count(lease)
        new = await add(storage, gated(2))
        await stage.reached("started 2")
        assert (await record(storage, new)).lease == lease
        answer.set()
        await until(lambda: worker.health().running == 1)
        stage.reach("go on")
        assert isinstance(await endings.of(new), JobCompleted)
        assert (await record(storage, new)).result == 2
        await until(lambda: worker.health().running == 0)
