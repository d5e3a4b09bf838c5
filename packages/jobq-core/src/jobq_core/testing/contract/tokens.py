"""What travels with a job through its states: headers, gates, and the end that is kept for others."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest

from jobq_core.records import WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import GATED, UNKNOWN_KIND, Claim, QueueStorage
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import (
    ERROR,
    add_job,
    case,
    claim,
    claim_one,
    job_in,
    new_job,
    read,
    register_worker,
    settle,
    state_of,
)

S = JobState


class TokensContract(ContractBase):
    """Headers, `since`, gates, and followed jobs."""

    async def test_headers_travel_with_the_job(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        meta = b'{"traceparent":"00-ab","\xc3\xbc":1}'
        with_meta, without = await add_job(storage, meta=meta), await add_job(storage)
        claimed = await claim(other, worker)
        assert [job.meta for job in claimed] == [meta, None]
        assert [job.meta for job in await storage.recover_claims(worker.id, [])] == [meta, None]
        assert (await read(other, with_meta)).meta == {"traceparent": "00-ab", "ü": 1}
        record = await read(other, without)
        assert (record.meta_json, record.meta) == (None, {})
        await settle(storage, worker, claimed[0], result=b"1")
        assert (await read(other, with_meta)).meta_json == meta

    @pytest.mark.parametrize("options", [{}, {"unique_key": "k"}, {"run_at": 0.0}, {"tags": ("x",)}], ids=str)
    async def test_headers_are_stored_whatever_the_other_options(
        self, storage: QueueStorage, worker: WorkerInfo, options: dict[str, Any]
    ) -> None:
        jobs = [new_job(meta=b'{"n":"%d"}' % n, **(options if n == 0 else {})) for n in range(3)]
        await storage.add(jobs[:1])
        await storage.add(jobs[1:])
        await storage.promote()
        assert [job.meta for job in await claim(storage, worker)] == [job.meta for job in jobs]

    async def test_since_says_when_the_job_came_to_its_state(self, storage: QueueStorage) -> None:
        worker = await register_worker(storage, lost_after=3600.0)
        moments = []
        job = await add_job(storage, run_at=60.0)
        moments.append((await read(storage, job)).since)
        await self.advance(storage, 61)
        await storage.promote()
        moments.append((await read(storage, job)).since)
        await self.advance(storage, 10)
        claimed = await claim_one(storage, worker)
        record = await read(storage, job)
        moments.append(record.since)
        assert record.since == record.started_at
        await self.advance(storage, 10)
        await settle(storage, worker, claimed, Ending.FAIL, error=ERROR)
        record = await read(storage, job)
        moments.append(record.since)
        assert record.since == record.finished_at
        await self.advance(storage, 10)
        await storage.retry([job])
        moments.append((await read(storage, job)).since)
        known = [moment for moment in moments if moment is not None]
        assert len(known) == 5
        gaps = [(later - sooner).total_seconds() for sooner, later in pairwise(known)]
        for gap, least in zip(gaps, (61, 10, 10, 10), strict=True):
            assert least <= gap < least + 30

    # Gates

    async def test_a_gated_job_waits_to_be_admitted(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        gated, free = new_job(gated=True), new_job()
        await storage.add([gated, free])
        record = await read(other, gated.id)
        assert (record.state, record.reason, record.run_at, record.gated) == (S.BLOCKED, GATED, None, True)
        assert [job.id for job in await claim(storage, worker)] == [free.id]
        assert not (await read(other, free.id)).gated
        assert await other.admit([free.id, gated.id, new_job().id]) == 1
        assert await other.admit([gated.id]) == 0
        record = await read(other, gated.id)
        assert (record.state, record.reason, record.gated) == (S.PENDING, None, True)
        assert (await claim_one(storage, worker)).id == gated.id

    async def test_a_gated_job_whose_time_has_come_waits_for_its_gate_alone(self, storage: QueueStorage) -> None:
        job = await add_job(storage, gated=True, run_at=0.0)
        record = await read(storage, job)
        assert (record.state, record.reason, record.run_at) == (S.BLOCKED, GATED, None)
        assert (await storage.promote()).promoted == 0

    async def test_admitted_jobs_stand_in_the_given_order(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        jobs = [await add_job(storage, gated=True) for _ in range(4)]
        order = [jobs[n] for n in (2, 0, 3, 1)]
        assert await storage.admit(order) == 4
        assert [job.id for job in await claim(storage, worker)] == order

    async def test_a_gated_job_waits_each_time_that_it_would_become_pending(self, storage: QueueStorage) -> None:
        worker = await register_worker(storage, lost_after=3600.0)
        job = await add_job(storage, gated=True, run_at=60.0, max_attempts=9)
        assert await state_of(storage, job) is S.SCHEDULED
        await self.advance(storage, 61)
        assert (await storage.promote()).promoted == 1
        await self._check_gate(storage, job)
        for ending in (Ending.RETRY, Ending.RELEASE, Ending.SNOOZE):
            with case(ending):
                error = ERROR if ending is Ending.RETRY else None
                assert await settle(storage, worker, await claim_one(storage, worker), ending, error=error) is S.BLOCKED
                await self._check_gate(storage, job)
        await storage.disable([job])
        assert [change.after for change in await storage.enable([job])] == [S.BLOCKED]
        await self._check_gate(storage, job)
        await storage.abort([job])
        assert [change.after for change in await storage.retry([job])] == [S.BLOCKED]
        await self._check_gate(storage, job)
        await claim_one(storage, worker)
        await storage.deregister(worker.id)
        [lost] = (await storage.rescue()).workers
        assert [each.state for each in lost.jobs] == [S.BLOCKED]
        await self._check_gate(storage, job)
        assert (await storage.promote()).next_in is None

    async def test_a_gated_job_that_is_freed_from_its_suspension_waits_at_its_gate(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage, gated=True)
        await storage.admit([job])
        claimed = await claim_one(storage, worker)
        assert await settle(storage, worker, claimed, Ending.SUSPEND, reason=UNKNOWN_KIND) is S.BLOCKED
        assert await storage.admit([job]) == 0
        result = await storage.settle_and_claim(worker.id, (), Claim.of("default", limit=5, kinds=(("noop", "v"),)))
        assert (result.claimed, await storage.admit([job])) == ([], 1)

    async def _check_gate(self, storage: QueueStorage, job: UUID) -> None:
        """Check that the job waits at its gate, and admit it."""
        record = await read(storage, job)
        assert (record.state, record.reason) == (S.BLOCKED, GATED)
        assert await storage.admit([job]) == 1
        assert await state_of(storage, job) is S.PENDING

    # Ends

    async def test_the_end_of_a_followed_job_is_kept_until_it_is_resolved(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        jobs = {state: await job_in(storage, worker, state, followed=True) for state in (S.COMPLETED, S.FAILED)}
        await job_in(storage, worker, S.COMPLETED)
        jobs[S.ABORTED] = await job_in(storage, worker, S.ABORTED, followed=True)
        assert (await read(storage, jobs[S.FAILED])).followed
        records = {state: await read(storage, job) for state, job in jobs.items()}
        ended = await other.resolve()
        assert {(end.id, end.state, end.queue) for end in ended} == {
            (job, state, "default") for state, job in jobs.items()
        }
        assert {end.id: end.at for end in ended} == {record.id: record.finished_at for record in records.values()}
        assert await storage.resolve() == []

    async def test_a_job_that_ends_twice_leaves_two_ends(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await job_in(storage, worker, S.FAILED, followed=True)
        await storage.retry([job])
        await settle(storage, worker, await claim_one(storage, worker), result=b"1")
        assert [(end.id, end.state) for end in await storage.resolve()] == [(job, S.FAILED), (job, S.COMPLETED)]

    async def test_runs_that_do_not_end_the_job_leave_nothing(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await add_job(storage, followed=True)
        for ending in (Ending.RETRY, Ending.RELEASE, Ending.SNOOZE):
            await settle(storage, worker, await claim_one(storage, worker), ending)
        await storage.disable([job])
        assert await storage.resolve() == []

    async def test_every_way_to_end_leaves_an_end(self, storage: QueueStorage) -> None:
        worker = await register_worker(storage, lost_after=3600.0)
        expired = await add_job(storage, followed=True, deadline=60.0)
        await self.advance(storage, 61)
        await storage.expire()
        deleted, cleared = [await job_in(storage, worker, S.SCHEDULED, followed=True) for _ in range(2)]
        finished = await job_in(storage, worker, S.COMPLETED, followed=True)
        await storage.delete([deleted])
        await storage.clear("default")
        running = await add_job(storage, followed=True, max_attempts=1)
        claimed = await claim_one(storage, worker)
        await storage.mark_started(worker.id, [(running, claimed.lease)])
        await storage.deregister(worker.id)
        await storage.rescue()
        assert {(end.id, end.state) for end in await storage.resolve()} == {
            (expired, S.FAILED),
            (deleted, None),
            (cleared, None),
            (finished, S.COMPLETED),
            (running, S.FAILED),
        }

    async def test_ends_are_resolved_once_and_up_to_the_limit(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        jobs = [await job_in(storage, worker, S.ABORTED, followed=True) for _ in range(5)]
        first = await storage.resolve(2)
        rest = await other.resolve(10)
        assert [end.id for end in first] == jobs[:2]
        assert sorted(end.id for end in [*first, *rest]) == sorted(jobs)
