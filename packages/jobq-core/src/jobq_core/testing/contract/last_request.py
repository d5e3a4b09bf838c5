"""The last request wins: a call that answered True holds, whatever the run does."""

from __future__ import annotations

from itertools import product

import pytest

from jobq_core.records import WorkerInfo
from jobq_core.states import Ending, JobState, StopRequest
from jobq_core.storage import FINISHED_TOPIC, QueueStorage
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.contract.notifications import notified, silence
from jobq_core.testing.helpers import ERROR, add_job, case, claim_one, read, register_worker, settle

S = JobState
STOPPED = [ending for ending in Ending if ending is not Ending.COMPLETE]
NOT_COUNTED = (Ending.RELEASE, Ending.SNOOZE, Ending.SUSPEND)


class LastRequestContract(ContractBase):
    """The state of a run that ends follows the last request, unless the run completed."""

    @pytest.mark.parametrize("when", [None, 60.0])
    async def test_every_ending_follows_the_last_request(
        self, storage: QueueStorage, worker: WorkerInfo, when: float | None
    ) -> None:
        asked = {"abort": S.ABORTED, "disable": S.DISABLED}
        for (request, expected), ending in product(asked.items(), STOPPED):
            with case(f"{request} {ending}"):
                job = await add_job(storage)
                claimed = await claim_one(storage, worker)
                [change] = await getattr(storage, request)([job])
                assert change.asked
                assert await settle(storage, worker, claimed, ending, error=ERROR, when=when) is expected
                record = await read(storage, job)
                assert (record.state, record.stop_request, record.attempt) == (
                    expected,
                    None,
                    0 if ending in NOT_COUNTED else 1,
                )
                # The error of a run that counts is kept, whatever the request made of the job.
                assert record.error == (None if ending in NOT_COUNTED else ERROR)
                assert len(record.attempts) == (0 if ending in NOT_COUNTED else 1)

    @pytest.mark.parametrize("request_", ["abort", "disable"])
    async def test_a_completion_stands(self, storage: QueueStorage, worker: WorkerInfo, request_: str) -> None:
        job = await add_job(storage)
        claimed = await claim_one(storage, worker)
        await getattr(storage, request_)([job])
        assert await settle(storage, worker, claimed, result=b"1") is S.COMPLETED

    async def test_a_run_that_stopped_after_the_request_was_withdrawn_goes_back_to_its_place(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage)
        claimed = await claim_one(storage, worker)
        await add_job(storage, priority=9)
        await storage.disable([job])
        [change] = await other.enable([job])
        assert change.asked
        assert await settle(storage, worker, claimed, Ending.DISABLE, error=ERROR) is S.PENDING
        record = await read(storage, job)
        assert (record.attempt, record.attempts, record.error, record.reason) == (0, (), None, None)
        again = await claim_one(storage, worker)
        assert (again.id, again.attempt) == (job, 1)

    async def test_an_abort_replaces_a_request_to_disable_and_stays(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        for ending in STOPPED:
            with case(ending):
                job = await add_job(storage)
                claimed = await claim_one(storage, worker)
                answers = [
                    (await storage.disable([job]))[0].asked,
                    (await other.enable([job]))[0].asked,
                    (await storage.disable([job]))[0].asked,
                    (await other.abort([job]))[0].asked,
                    (await storage.abort([job]))[0].asked,
                    (await storage.disable([job]))[0].asked,
                    (await other.enable([job]))[0].asked,
                ]
                assert answers == [True, True, True, True, True, False, False]
                assert (await read(storage, job)).stop_request is StopRequest.ABORT
                assert await settle(storage, worker, claimed, ending, error=ERROR) is S.ABORTED

    async def test_a_rescue_follows_the_last_request(self, storage: QueueStorage) -> None:
        calls = {
            ("disable",): S.DISABLED,
            ("disable", "enable"): S.PENDING,
            ("disable", "abort"): S.ABORTED,
            ("abort", "disable", "enable"): S.ABORTED,
        }
        for asked, expected in calls.items():
            with case(asked):
                lost = await register_worker(storage, lost_after=5.0)
                job = await add_job(storage)
                await claim_one(storage, lost)
                for call in asked:
                    await getattr(storage, call)([job])
                await self.advance(storage, 6)
                [found] = (await storage.rescue()).workers
                assert [each.state for each in found.jobs] == [expected]
                record = await read(storage, job)
                assert (record.state, record.stop_request, len(record.attempts)) == (expected, None, 1)
                await storage.clear("default")

    async def test_a_job_disabled_in_its_last_attempt_runs_once_more_when_it_is_enabled(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage, max_attempts=1)
        for attempt in (1, 2):
            claimed = await claim_one(storage, worker)
            assert claimed.attempt == attempt
            await storage.disable([job])
            assert await settle(storage, worker, claimed, Ending.FAIL, error=ERROR) is S.DISABLED
            [change] = await storage.enable([job])
            assert change.after is S.PENDING
        # The request was withdrawn: a run that stopped for it does not count, and one that failed does.
        claimed = await claim_one(storage, worker)
        await storage.disable([job])
        await storage.enable([job])
        assert await settle(storage, worker, claimed, Ending.DISABLE, error=ERROR) is S.PENDING
        claimed = await claim_one(storage, worker)
        assert claimed.attempt == 3
        await storage.disable([job])
        await storage.enable([job])
        assert await settle(storage, worker, claimed, Ending.FAIL, error=ERROR) is S.FAILED

    async def test_a_job_that_ends_disabled_is_notified(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        async with other.subscribe([FINISHED_TOPIC]) as there:
            job = await add_job(storage)
            claimed = await claim_one(storage, worker)
            await storage.disable([job])
            await silence(there)
            await settle(storage, worker, claimed, Ending.DISABLE)
            await notified(there, FINISHED_TOPIC)

    async def test_a_repeated_settlement_is_answered_with_the_state_that_it_led_to(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        for request, ending in product([None, "abort", "disable"], STOPPED):
            with case(f"{request} {ending}"):
                job = await add_job(storage)
                claimed = await claim_one(storage, worker)
                if request is not None:
                    await getattr(storage, request)([job])
                state = await settle(storage, worker, claimed, ending, error=ERROR)
                assert await settle(other, worker, claimed, ending, error=ERROR) is state
                await storage.clear("default")
