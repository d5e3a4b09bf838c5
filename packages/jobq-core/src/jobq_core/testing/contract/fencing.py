"""Fencing: settlements under other leases, repeated ones, and several of one run."""

from __future__ import annotations

import asyncio

import pytest

from jobq_core.ids import new_id
from jobq_core.records import WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import Claim, QueueStorage, Settlement
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.contract.settling import ENDINGS, claim_one_each, settlement
from jobq_core.testing.helpers import ERROR, add_job, case, claim, claim_one, read, register_worker, settle, settle_all


class FencingContract(ContractBase):
    """A settlement takes effect once, and only under the lease it names."""

    async def test_a_settlement_of_an_unknown_job_changes_nothing(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        result = await storage.settle_and_claim(worker.id, [Settlement(new_id(), 1, Ending.COMPLETE, b"1")])
        assert result.settled == [None]

    async def test_a_settlement_under_another_lease_changes_nothing(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job, neighbour = await add_job(storage), await add_job(storage)
        claimed, beside = await claim(storage, worker)
        before = await storage.get([job, neighbour])
        for ending, when in ENDINGS:
            for lease in (beside.lease, beside.lease + 1, claimed.lease - 1, 0):
                stale = settlement(claimed, ending, when)
                stale.lease = lease
                assert (await storage.settle_and_claim(worker.id, [stale])).settled == [None]
        assert await storage.get([job, neighbour]) == before

    async def test_a_resumed_worker_cannot_settle_a_lease_it_lost(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        stale = [settlement(*run) for run in await claim_one_each(storage, worker)]
        jobs = [each.id for each in stale]

        async def resume() -> None:
            before = await storage.get(jobs)
            for each in stale:
                with case(f"{each.ending} {each.when}"):
                    assert (await storage.settle_and_claim(worker.id, [each])).settled == [None]
            assert (await storage.settle_and_claim(worker.id, stale)).settled == [None] * len(stale)
            assert await storage.get(jobs) == before

        await self.advance(storage, worker.lost_after + 1)
        await storage.rescue()
        await resume()
        # Nor while another worker runs the jobs.
        heir = await register_worker(storage)
        claimed = await claim(storage, heir)
        await resume()
        # Nor after that worker has settled them.
        for job in claimed:
            assert await settle(storage, heir, job, result=b'"by the heir"') is JobState.COMPLETED
        await resume()
        assert {record and record.result for record in await storage.get(jobs)} == {"by the heir"}

    async def test_a_lost_lease_is_not_answered_with_the_state_of_an_earlier_run(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        await add_job(storage)
        await settle(storage, worker, await claim_one(storage, worker), Ending.RETRY, error=ERROR)
        stale = settlement(await claim_one(storage, worker), Ending.COMPLETE)
        await self.advance(storage, worker.lost_after + 1)
        await storage.rescue()
        assert (await storage.settle_and_claim(worker.id, [stale])).settled == [None]

    @pytest.mark.parametrize("removed", ["delete", "clear"])
    async def test_a_settlement_does_not_restore_a_deleted_job(
        self, storage: QueueStorage, worker: WorkerInfo, removed: str
    ) -> None:
        late = [settlement(*run) for run in await claim_one_each(storage, worker)]
        jobs = [each.id for each in late]
        if removed == "delete":
            await storage.delete(jobs)
        else:
            assert await storage.clear("default") == len(jobs)
        assert (await storage.settle_and_claim(worker.id, late)).settled == [None] * len(jobs)
        assert await storage.get(jobs) == [None] * len(jobs)
        await self.advance(storage, 61)
        assert (await storage.promote()).promoted == 0
        assert [lost.jobs for lost in (await storage.rescue()).workers] == [[]]
        assert (await storage.counts("default"))["default"] == dict.fromkeys(JobState, 0)

    # Once

    async def test_a_repeated_settlement_is_answered_with_the_state_it_led_to_and_changes_nothing(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        once = [settlement(*run) for run in await claim_one_each(storage, worker)]
        states = (await storage.settle_and_claim(worker.id, once)).settled
        assert None not in states
        before = await storage.get([each.id for each in once])
        for place in (storage, other, storage):
            assert (await place.settle_and_claim(worker.id, once)).settled == states
        for each, state in zip(once, states, strict=True):
            with case(f"{each.ending} {each.when}"):
                assert (await storage.settle_and_claim(worker.id, [each])).settled == [state]
        assert await storage.get([each.id for each in once]) == before

    async def test_a_repeated_settlement_is_answered_the_same_when_the_job_has_moved_on(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        once = [settlement(*run) for run in await claim_one_each(storage, worker)]
        jobs = [each.id for each in once]
        states = (await storage.settle_and_claim(worker.id, once)).settled
        await self.advance(storage, 61)
        await storage.promote()
        await storage.enable(jobs)
        await storage.retry(jobs)
        assert (await storage.settle_and_claim(worker.id, once)).settled == states
        await storage.disable(jobs)
        await storage.abort(jobs)
        assert (await storage.settle_and_claim(worker.id, once)).settled == states

    async def test_a_call_whose_answer_was_lost_is_sent_again_and_its_claims_are_recovered(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        # Without a release at once, whose job would be claimed first.
        once = [
            settlement(job, Ending.COMPLETE if ending is Ending.RELEASE and when is None else ending, when)
            for job, ending, when in await claim_one_each(storage, worker)
        ]
        once.append(Settlement(once[0].id, 10**9, Ending.COMPLETE))
        ready = [await add_job(storage) for _ in range(3)]
        unanswered = await storage.settle_and_claim(worker.id, once, Claim.of(*worker.queues, limit=2))
        assert unanswered.settled[-1] is None
        again = await other.settle_and_claim(worker.id, once, Claim.of(*worker.queues, limit=1))
        assert again.settled == unanswered.settled
        assert [job.id for job in [*unanswered.claimed, *again.claimed]] == ready
        recovered = await storage.recover_claims(worker.id, [job.lease for job in again.claimed])
        assert {(job.id, job.lease) for job in recovered} == {(job.id, job.lease) for job in unanswered.claimed}

    @pytest.mark.parametrize("ending", [Ending.RETRY, Ending.RELEASE])
    async def test_a_repeated_settlement_changes_nothing_once_the_job_is_claimed_again(
        self, storage: QueueStorage, worker: WorkerInfo, ending: Ending
    ) -> None:
        job = await add_job(storage)
        once = settlement(await claim_one(storage, worker), ending)
        assert (await storage.settle_and_claim(worker.id, [once])).settled == [JobState.PENDING]
        again = await claim_one(storage, worker)
        before = await read(storage, job)
        assert (await storage.settle_and_claim(worker.id, [once])).settled == [None]
        assert await read(storage, job) == before
        assert await settle(storage, worker, again) is JobState.COMPLETED

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            (Ending.COMPLETE, Ending.ABORT),
            (Ending.ABORT, Ending.COMPLETE),
            (Ending.COMPLETE, Ending.FAIL),
            (Ending.FAIL, Ending.COMPLETE),
            (Ending.FAIL, Ending.RETRY),
            (Ending.RETRY, Ending.FAIL),
            (Ending.DISABLE, Ending.COMPLETE),
            (Ending.RELEASE, Ending.COMPLETE),
        ],
    )
    async def test_a_later_ending_of_the_same_run_changes_nothing(
        self, storage: QueueStorage, worker: WorkerInfo, first: Ending, second: Ending
    ) -> None:
        job = await add_job(storage)
        claimed = await claim_one(storage, worker)
        state = (await storage.settle_and_claim(worker.id, [settlement(claimed, first)])).settled
        before = await read(storage, job)
        assert (await storage.settle_and_claim(worker.id, [settlement(claimed, second)])).settled == state
        assert await read(storage, job) == before

    async def test_of_two_endings_of_one_run_at_once_one_counts(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        for _ in range(15):
            job = await add_job(storage)
            claimed = await claim_one(storage, worker)
            answers = await asyncio.gather(
                settle_all(storage, worker.id, [settlement(claimed, Ending.COMPLETE)]),
                settle_all(other, worker.id, [settlement(claimed, Ending.ABORT)]),
            )
            record = await read(storage, job)
            assert [answer.settled for answer in answers] == [[record.state]] * 2
            assert record.state in (JobState.COMPLETED, JobState.ABORTED)
            assert (record.result_json is None) is (record.error is not None) is (record.state is JobState.ABORTED)
