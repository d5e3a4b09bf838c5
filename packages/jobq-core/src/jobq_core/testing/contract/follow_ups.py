"""Follow-ups: each failure of a job with a `follow_up` is kept, and followed once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import pytest
from msgspec import Raw

from jobq_core.ids import new_id
from jobq_core.records import WorkerInfo, deadline_passed
from jobq_core.states import Ending, JobState
from jobq_core.storage import (
    ENDED_TOPIC,
    UNKNOWN_KIND,
    Claim,
    EndedJob,
    FailedJob,
    NewJob,
    QueueOptions,
    QueueStorage,
    Retention,
    Settlement,
    queue_topic,
)
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.contract.notifications import notified, silence
from jobq_core.testing.helpers import (
    ERROR,
    add_job,
    claim_one,
    job_in,
    new_job,
    read,
    register_worker,
    settle,
    settle_all,
    start_one,
    state_of,
)

S = JobState

FOLLOW_UP: Final = b'{"kind":"alert","n":1}'
ARGUMENTS: Final = b'{"path":"a.png","width":64.0}'
META: Final = b'{"tenant":"7"}'


def alert(end: EndedJob, **options: Any) -> NewJob:
    """Return a job that follows an end, and names its job."""
    return new_job(**{"kind": "alert", "queue": "alerts", "run_id": str(end.id)} | options)


def alerts(ended: Sequence[EndedJob]) -> list[NewJob]:
    """Return a job that follows each of the ends."""
    return [alert(end) for end in ended]


async def followed(storage: QueueStorage, worker: WorkerInfo) -> list[UUID]:
    """Claim the jobs that follow others, and return the ids of those."""
    answer = await storage.settle_and_claim(worker.id, (), Claim.of("alerts", limit=100))
    return [UUID(job.run_id) for job in answer.claimed]


class FollowUpsContract(ContractBase):
    """Ends that are kept for a follow-up, and the jobs that are stored when they are forgotten."""

    async def _fail(self, storage: QueueStorage, worker: WorkerInfo, **options: Any) -> UUID:
        """Add a job with a follow-up and let its run fail."""
        return await job_in(storage, worker, S.FAILED, **{"follow_up": FOLLOW_UP} | options)

    # What is kept

    @pytest.mark.parametrize("options", [{}, {"unique_key": "k"}, {"run_at": 0.0}, {"tags": ("x",)}], ids=str)
    async def test_a_failure_is_kept_with_what_its_follow_up_needs(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo, options: dict[str, Any]
    ) -> None:
        full = new_job(
            kind="resize", arguments=ARGUMENTS, meta=META, run_id="nightly", follow_up=FOLLOW_UP, priority=1, **options
        )
        bare = new_job(follow_up=FOLLOW_UP)
        await storage.add([full])
        await storage.add([new_job(queue="else"), bare, new_job(queue="else")])
        await storage.promote()
        for _ in range(2):
            await settle(storage, worker, await claim_one(storage, worker), Ending.FAIL, error=ERROR)
        first, second = await other.resolve()
        assert (first.id, first.queue, first.state) == (full.id, "default", S.FAILED)
        assert first.at == (await read(storage, full.id)).finished_at
        assert first.failed == FailedJob(
            id=full.id,
            queue="default",
            kind="resize",
            arguments=Raw(ARGUMENTS),
            follow_up=Raw(FOLLOW_UP),
            meta=Raw(META),
            run_id="nightly",
            error=ERROR,
        )
        assert second.failed == FailedJob(
            id=bare.id, queue="default", kind="noop", arguments=Raw(b"{}"), follow_up=Raw(FOLLOW_UP), error=ERROR
        )

    async def test_a_follow_up_is_not_among_the_headers(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await add_job(storage, follow_up=FOLLOW_UP)
        assert (await claim_one(storage, worker)).meta is None
        assert (await read(storage, job)).meta == {}

    async def test_a_deadline_that_passes_where_the_job_waits_is_a_failure(self, storage: QueueStorage) -> None:
        await add_job(storage, deadline=60.0)
        jobs = [
            await add_job(storage, follow_up=FOLLOW_UP, deadline=60.0, **options)
            for options in ({}, {"run_at": 600.0}, {"gated": True})
        ]
        await self.advance(storage, 61)
        assert (await storage.expire()).count == 4
        ended = await storage.resolve()
        assert sorted(end.id for end in ended) == sorted(jobs)
        assert [end.failed.error for end in ended if end.failed is not None] == [deadline_passed()] * 3

    async def test_the_last_attempt_lost_with_its_worker_is_a_failure(self, storage: QueueStorage) -> None:
        lost = await register_worker(storage, lost_after=5.0)
        spent = await add_job(storage, follow_up=FOLLOW_UP, max_attempts=1)
        await start_one(storage, lost)
        await add_job(storage, follow_up=FOLLOW_UP, max_attempts=2)
        await start_one(storage, lost)
        aborted = await add_job(storage, follow_up=FOLLOW_UP, max_attempts=1)
        await start_one(storage, lost)
        await storage.abort([aborted])
        await self.advance(storage, 6)
        assert len((await storage.rescue()).workers[0].jobs) == 3
        assert (await storage.rescue()).workers == []
        [end] = await storage.resolve()
        assert (end.id, end.state) == (spent, S.FAILED)
        assert end.failed is not None
        assert end.failed.error == (await read(storage, spent)).error

    async def test_no_other_end_is_kept(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        await job_in(storage, worker, S.FAILED)
        for state in (S.COMPLETED, S.ABORTED, S.DISABLED):
            await self._in(storage, worker, state)
        await storage.delete([await self._in(storage, worker, S.SCHEDULED)])
        job = await add_job(storage, follow_up=FOLLOW_UP)
        for ending in (Ending.RETRY, Ending.RELEASE, Ending.SNOOZE):
            await settle(storage, worker, await claim_one(storage, worker), ending, error=ERROR)
        # A run that fails after its job was asked to abort leaves it ABORTED.
        claimed = await claim_one(storage, worker)
        await storage.abort([job])
        assert await settle(storage, worker, claimed, Ending.FAIL, error=ERROR) is S.ABORTED
        assert await storage.resolve() == []

    async def _in(self, storage: QueueStorage, worker: WorkerInfo, state: JobState) -> UUID:
        return await job_in(storage, worker, state, follow_up=FOLLOW_UP)

    async def test_a_follow_up_stays_with_the_job_through_all_its_states(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        lost = await register_worker(storage, lost_after=3600.0)
        job = await add_job(storage, follow_up=FOLLOW_UP, gated=True, run_at=0.0, max_attempts=20)
        for ending in (Ending.RETRY, Ending.RELEASE, Ending.SNOOZE, Ending.HOLD, Ending.SUSPEND):
            await storage.admit([job])
            reason = UNKNOWN_KIND if ending is Ending.SUSPEND else None
            await settle(storage, worker, await claim_one(storage, worker), ending, error=ERROR, reason=reason)
            await storage.enable([job])
        await storage.settle_and_claim(worker.id, (), Claim.of("default", limit=1, kinds=(("noop", "v"),)))
        await storage.disable([job])
        await storage.enable([job])
        await storage.admit([job])
        await claim_one(storage, lost)
        await storage.deregister(lost.id)
        assert len((await storage.rescue()).workers) == 1
        await storage.abort([job])
        await storage.retry([job])
        await storage.admit([job])
        await settle(storage, worker, await claim_one(storage, worker), Ending.FAIL, error=ERROR)
        assert [end.id for end in await storage.resolve()] == [job]

    async def test_a_job_that_an_operator_changes_keeps_its_follow_up(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage, follow_up=FOLLOW_UP, queue="else", run_at=600.0)
        await storage.run_now([job])
        await storage.set_priority([job], 7)
        await storage.move([job], "default")
        await settle(storage, worker, await claim_one(storage, worker), Ending.FAIL, error=ERROR)
        [end] = await storage.resolve()
        assert end.failed is not None
        assert (end.queue, end.failed.queue) == ("default", "default")

    async def test_a_child_of_a_run_has_its_follow_up(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        await add_job(storage)
        claimed = await claim_one(storage, worker)
        child = new_job(follow_up=FOLLOW_UP)
        await settle_all(
            storage, worker.id, [Settlement(claimed.id, claimed.lease, Ending.COMPLETE, b"1", jobs=(child,))]
        )
        await settle(storage, worker, await claim_one(storage, worker), Ending.FAIL, error=ERROR)
        assert [end.id for end in await storage.resolve()] == [child.id]

    async def test_a_failure_is_kept_whatever_is_done_to_the_job(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        retried, deleted = [await self._fail(storage, worker, arguments=ARGUMENTS) for _ in range(2)]
        pruned = await self._fail(storage, worker, queue="short", arguments=ARGUMENTS)
        await storage.retry([retried])
        await storage.delete([deleted])
        await storage.set_queue("short", QueueOptions(retention=Retention(failed=0.0)))
        while await state_of(storage, pruned) is not None:
            await storage.prune()
        ended = await storage.resolve()
        assert [end.id for end in ended] == [retried, deleted, pruned]
        for end in ended:
            assert end.failed is not None
            assert (end.failed.arguments, end.failed.error) == (Raw(ARGUMENTS), ERROR)

    async def test_a_job_that_fails_again_after_a_retry_is_kept_again(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await self._fail(storage, worker)
        await storage.retry([job])
        await settle(storage, worker, await claim_one(storage, worker), Ending.FAIL, error=ERROR)
        assert [end.id for end in await storage.resolve()] == [job, job]

    async def test_a_settlement_that_is_sent_again_is_one_failure(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage, follow_up=FOLLOW_UP)
        claimed = await claim_one(storage, worker)
        for _ in range(2):
            assert await settle(storage, worker, claimed, Ending.FAIL, error=ERROR) is S.FAILED
        assert [end.id for end in await storage.resolve()] == [job]

    async def test_the_keeper_is_notified_of_each_failure(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        async with other.subscribe([ENDED_TOPIC]) as there:
            await self._fail(storage, worker)
            await notified(there, ENDED_TOPIC)
            await add_job(storage, follow_up=FOLLOW_UP, deadline=60.0)
            await self.advance(storage, 61)
            await silence(there)
            await storage.expire()
            await notified(there, ENDED_TOPIC)
            lost = await register_worker(storage)
            await add_job(storage, follow_up=FOLLOW_UP, max_attempts=1)
            await start_one(storage, lost)
            await storage.deregister(lost.id)
            await silence(there)
            await storage.rescue()
            await notified(there, ENDED_TOPIC)

    # What follows

    async def test_what_follows_is_stored_once_and_can_be_claimed(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        jobs = [await self._fail(storage, worker) for _ in range(5)]
        assert [end.id for end in await other.resolve(2, alerts)] == jobs[:2]
        assert await followed(storage, worker) == jobs[:2]
        assert [end.id for end in await storage.resolve(follow=alerts)] == jobs[2:]
        assert await storage.resolve(follow=alerts) == []
        assert await followed(other, worker) == jobs[2:]

    async def test_what_follows_is_stored_with_its_options(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        await self._fail(storage, worker)
        await self._fail(storage, worker)
        made: list[NewJob] = []

        def follow(ended: Sequence[EndedJob]) -> list[NewJob]:
            one, two = ended
            made[:] = [alert(one, priority=7, run_at=600.0, meta=META), alert(two, follow_up=FOLLOW_UP, timeout=5.0)]
            return made

        await storage.resolve(follow=follow)
        later, now = [await read(storage, job.id) for job in made]
        assert (later.state, later.priority, later.meta) == (S.SCHEDULED, 7, {"tenant": "7"})
        assert (now.state, now.queue, now.timeout) == (S.PENDING, "alerts", 5.0)
        await settle(storage, worker, await claim_one(storage, worker, "alerts"), Ending.FAIL, error=ERROR)
        assert [end.id for end in await storage.resolve()] == [now.id]

    async def test_nothing_is_asked_where_no_job_ended(self, storage: QueueStorage) -> None:
        def follow(ended: Sequence[EndedJob]) -> list[NewJob]:
            raise AssertionError

        assert await storage.resolve(follow=follow) == []

    async def test_an_end_with_nothing_to_follow_is_forgotten(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await self._fail(storage, worker)
        assert [end.id for end in await storage.resolve(follow=lambda ended: [])] == [job]
        assert await storage.resolve() == []

    async def test_ends_stay_if_making_what_follows_fails(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await self._fail(storage, worker)

        def follow(ended: Sequence[EndedJob]) -> list[NewJob]:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await storage.resolve(follow=follow)
        assert [end.id for end in await storage.resolve(follow=alerts)] == [job]

    async def test_two_keepers_at_once_follow_each_failure_once(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        jobs = [await self._fail(storage, worker) for _ in range(12)]

        async def keep(each: QueueStorage) -> list[EndedJob]:
            return [end for _ in range(6) for end in await each.resolve(3, alerts)]

        async with asyncio.timeout(20):
            answers = await asyncio.gather(keep(storage), keep(other))
        assert sorted(end.id for ended in answers for end in ended) == sorted(jobs)
        assert sorted(await followed(storage, worker)) == sorted(jobs)

    async def test_workers_are_notified_of_what_follows(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        async with other.subscribe([queue_topic("alerts")]) as there:
            await self._fail(storage, worker)
            await silence(there)
            await storage.resolve(follow=alerts)
            await notified(there, queue_topic("alerts"))

    async def test_an_id_of_what_follows_that_exists_is_not_stored_again(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        known = new_id()
        await add_job(storage, id=known, queue="else")
        job = await self._fail(storage, worker)
        [end] = await storage.resolve(follow=lambda ended: [alert(ended[0], id=known), alert(ended[0])])
        assert (end.id, (await read(storage, known)).queue) == (job, "else")
        assert await followed(storage, worker) == [job]
