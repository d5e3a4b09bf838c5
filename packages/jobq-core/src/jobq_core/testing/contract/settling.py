"""Settling runs: the state that each ending leads to, what it stores, and that it takes effect once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from jobq_core.ids import new_id
from jobq_core.records import ErrorRecord, WorkerInfo
from jobq_core.states import Ending, JobState, is_finished, state_after
from jobq_core.storage import UNKNOWN_KIND, ClaimedJob, LeaseStatus, QueueStorage, Settlement
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import ERROR, RUN_ENDINGS, add_job, case, claim, claim_one, new_job, read, settle

ENDINGS: list[tuple[Ending, float | None]] = [
    *((ending, None) for ending in RUN_ENDINGS),
    (Ending.RETRY, 60.0),
    (Ending.RELEASE, 60.0),
]
"""Each way to settle a run, and the time it names."""


async def claim_one_each(storage: QueueStorage, worker: WorkerInfo) -> list[tuple[ClaimedJob, Ending, float | None]]:
    """Return one claimed job for each way to settle a run."""
    await storage.add([new_job() for _ in ENDINGS])
    claimed = await claim(storage, worker)
    return [(job, ending, when) for job, (ending, when) in zip(claimed, ENDINGS, strict=True)]


def settlement(claimed: ClaimedJob, ending: Ending, when: float | None = None) -> Settlement:
    """Return a settlement as a worker makes it: with a result or an error if the ending has one."""
    completes = ending is Ending.COMPLETE
    return Settlement(
        claimed.id,
        claimed.lease,
        ending,
        result=b'{"n":1}' if completes else None,
        error=None if completes or ending is Ending.RELEASE else ERROR,
        when=when,
        reason="no room" if ending is Ending.RELEASE and when is not None else None,
    )


class SettlingContract(ContractBase):
    """Each run ends once, under its own lease, in the state that its ending leads to."""

    async def test_each_ending_leads_to_the_state_after_it(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        for claimed, ending, when in await claim_one_each(storage, worker):
            with case(f"{ending} {when}"):
                before = await storage.now()
                result = await storage.settle_and_claim(worker.id, [settlement(claimed, ending, when)])
                after = await storage.now()
                expected = state_after(ending, request=None, waits=when is not None)
                assert result.settled == [expected]
                record = await read(other, claimed.id)
                assert record.state is expected
                assert (record.stop_request, record.aborting) == (None, False)
                assert record.finished is is_finished(expected)
                if is_finished(expected):
                    assert record.finished_at is not None
                    assert before <= record.finished_at <= after
                else:
                    assert record.finished_at is None
                assert await storage.check_leases(worker.id, [(claimed.id, claimed.lease)]) == [LeaseStatus(False)]

    async def test_a_completion_keeps_the_result(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage)
        claimed = await claim_one(storage, worker)
        await settle(storage, worker, claimed, result=b'{"n":1}')
        record = await read(other, job)
        assert (record.result_json, record.result, record.error) == (b'{"n":1}', {"n": 1}, None)
        assert (record.attempt, record.attempts) == (1, ())
        assert (record.worker, record.lease) == (worker.id, claimed.lease)
        assert record.started_at is not None

    @pytest.mark.parametrize("ending", [Ending.FAIL, Ending.ABORT])
    async def test_a_run_that_ends_the_job_with_an_error_keeps_it(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo, ending: Ending
    ) -> None:
        job = await add_job(storage)
        await settle(storage, worker, await claim_one(storage, worker), ending, error=ERROR)
        record = await read(other, job)
        assert (record.error, record.result_json) == (ERROR, None)
        [status] = await other.get_status([job])
        assert status is not None
        assert status.error == ERROR

    async def test_an_error_may_be_any_text(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        error = ErrorRecord(type="a.B<locals>.Ü", message="'%s' \\ \"\n€🦀", traceback="x" * 100_000)
        bare = ErrorRecord(type="KeyError", message="")
        jobs = [await add_job(storage) for _ in range(2)]
        for given in (error, bare):
            await settle(storage, worker, await claim_one(storage, worker), Ending.FAIL, error=given)
        assert [(await read(storage, job)).error for job in jobs] == [error, bare]
        assert [(await read(storage, job)).attempts[0].error for job in jobs] == [error, bare]

    # The history

    async def test_a_run_with_an_error_is_kept_unless_it_completed_or_was_released(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        for claimed, ending, when in await claim_one_each(storage, worker):
            with case(f"{ending} {when}"):
                started = (await read(storage, claimed.id)).started_at
                before = await storage.now()
                await settle(storage, worker, claimed, ending, error=ERROR, when=when)
                attempts = (await read(storage, claimed.id)).attempts
                if ending in (Ending.COMPLETE, Ending.RELEASE):
                    assert attempts == ()
                else:
                    [attempt] = attempts
                    assert (attempt.number, attempt.lease, attempt.worker) == (1, claimed.lease, worker.id)
                    assert (attempt.started_at, attempt.error) == (started, ERROR)
                    assert before <= attempt.finished_at <= await storage.now()

    async def test_a_run_without_an_error_leaves_no_history(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        for claimed, ending, when in await claim_one_each(storage, worker):
            await settle(storage, worker, claimed, ending, when=when)
            assert (await read(storage, claimed.id)).attempts == ()

    async def test_each_failed_attempt_is_kept_oldest_first(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await add_job(storage)
        leases: list[int] = []
        for message in ("first", "second", "third"):
            claimed = await claim_one(storage, worker)
            leases.append(claimed.lease)
            error = ErrorRecord(type="OSError", message=message)
            await settle(storage, worker, claimed, Ending.FAIL if message == "third" else Ending.RETRY, error=error)
        record = await read(storage, job)
        assert [attempt.error.message for attempt in record.attempts] == ["first", "second", "third"]
        assert [attempt.number for attempt in record.attempts] == [1, 2, 3]
        assert [attempt.lease for attempt in record.attempts] == leases
        assert record.attempt == 3

    async def test_a_completion_after_failures_keeps_their_history_and_no_error(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage)
        await settle(storage, worker, await claim_one(storage, worker), Ending.RETRY, error=ERROR)
        claimed = await claim_one(storage, worker)
        assert claimed.attempt == 2
        await settle(storage, worker, claimed, result=b"1")
        record = await read(storage, job)
        assert (record.state, record.error, len(record.attempts)) == (JobState.COMPLETED, None, 1)

    @pytest.mark.parametrize("when", [None, 60.0])
    async def test_a_release_gives_the_attempt_back(
        self, storage: QueueStorage, worker: WorkerInfo, when: float | None
    ) -> None:
        job = await add_job(storage)
        await settle(storage, worker, await claim_one(storage, worker), Ending.RETRY, error=ERROR)
        claimed = await claim_one(storage, worker)
        await settle(storage, worker, claimed, Ending.RELEASE, when=when)
        assert (await read(storage, job)).attempt == 1
        await self.advance(storage, 61)
        await storage.register(worker)
        await storage.promote()
        again = await claim_one(storage, worker)
        assert (again.id, again.attempt) == (job, 2)
        assert again.lease > claimed.lease

    # Times

    @pytest.mark.parametrize(
        ("ending", "state"), [(Ending.RETRY, JobState.SCHEDULED), (Ending.RELEASE, JobState.BLOCKED)]
    )
    async def test_a_future_time_is_kept_to_the_microsecond(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo, ending: Ending, state: JobState
    ) -> None:
        job = await add_job(storage)
        moment = datetime(2098, 7, 6, 5, 4, 3, 210987, tzinfo=UTC)
        assert await settle(storage, worker, await claim_one(storage, worker), ending, when=moment) is state
        assert (await read(other, job)).run_at == moment

    @pytest.mark.parametrize(
        ("ending", "state"), [(Ending.RETRY, JobState.SCHEDULED), (Ending.RELEASE, JobState.BLOCKED)]
    )
    async def test_seconds_count_from_the_storages_now(
        self, storage: QueueStorage, worker: WorkerInfo, ending: Ending, state: JobState
    ) -> None:
        job = await add_job(storage)
        claimed = await claim_one(storage, worker)
        before = await storage.now()
        assert await settle(storage, worker, claimed, ending, when=90.25) is state
        run_at = (await read(storage, job)).run_at
        assert run_at is not None
        assert before <= run_at - timedelta(seconds=90.25) <= await storage.now()

    @pytest.mark.parametrize("ending", [Ending.RETRY, Ending.RELEASE])
    @pytest.mark.parametrize("when", [0.0, datetime(2001, 1, 1, tzinfo=UTC)], ids=str)
    async def test_a_time_that_does_not_lie_ahead_puts_the_job_back_at_once(
        self, storage: QueueStorage, worker: WorkerInfo, ending: Ending, when: float | datetime
    ) -> None:
        job = await add_job(storage)
        assert await settle(storage, worker, await claim_one(storage, worker), ending, when=when) is JobState.PENDING
        assert (await claim_one(storage, worker)).id == job

    async def test_a_completed_job_has_no_reason(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await add_job(storage)
        await settle(storage, worker, await claim_one(storage, worker), reason="full")
        assert (await read(storage, job)).reason is None

    async def test_the_reason_says_why_a_job_is_kept_back(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await add_job(storage)
        await settle(storage, worker, await claim_one(storage, worker), Ending.RELEASE, when=60.0, reason=UNKNOWN_KIND)
        assert (await read(storage, job)).reason == UNKNOWN_KIND
        await self.advance(storage, 61)
        await storage.register(worker)
        await storage.promote()
        await settle(storage, worker, await claim_one(storage, worker), Ending.RETRY, when=60.0, error=ERROR)
        assert (await read(storage, job)).reason == "backoff"

    # Batches

    async def test_a_batch_is_answered_in_its_order(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        jobs = [await add_job(storage) for _ in range(8)]
        claimed = await claim(storage, worker)
        await storage.delete([jobs[6]])
        batch = [settlement(job, ending) for job, ending in zip(claimed, RUN_ENDINGS, strict=False)]
        batch += [settlement(claimed[6], Ending.COMPLETE), settlement(claimed[7], Ending.RETRY, 60.0)]
        batch.insert(2, Settlement(new_id(), claimed[0].lease, Ending.COMPLETE, b"1"))
        expected = [JobState.COMPLETED, JobState.FAILED, None, JobState.PENDING, JobState.ABORTED]
        expected += [JobState.DISABLED, JobState.PENDING, None, JobState.SCHEDULED]
        # In reverse, so that the order is not that of claiming.
        assert (await storage.settle_and_claim(worker.id, batch[::-1])).settled == expected[::-1]
        states = [None if record is None else record.state for record in await storage.get(jobs)]
        assert states == expected[:2] + expected[3:]

    async def test_a_run_settled_twice_in_one_batch_ends_once(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await add_job(storage)
        once = settlement(await claim_one(storage, worker), Ending.RETRY)
        assert (await storage.settle_and_claim(worker.id, [once, once])).settled == [JobState.PENDING] * 2
        record = await read(storage, job)
        assert (record.attempt, len(record.attempts)) == (1, 1)

    async def test_a_batch_may_be_large(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        jobs = [new_job() for _ in range(1_400)]
        await storage.add(jobs)
        claimed = await claim(storage, worker, 2_000)
        assert len(claimed) == 1_400
        ways = [ENDINGS[n % len(ENDINGS)] for n in range(1_400)]
        batch = [settlement(job, ending, when) for job, (ending, when) in zip(claimed, ways, strict=True)]
        expected = [state_after(ending, request=None, waits=when is not None) for ending, when in ways]
        assert (await storage.settle_and_claim(worker.id, batch)).settled == expected
        records = await storage.get([job.id for job in jobs])
        assert [record and record.state for record in records] == expected
        assert (await storage.settle_and_claim(worker.id, batch)).settled == expected

    async def test_the_settlements_of_one_batch_may_belong_to_several_queues(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        await storage.add([new_job(queue=f"q{n % 3}") for n in range(9)])
        claimed = await claim(storage, worker, 9, "q2", "q0", "q1")
        done = await storage.settle_and_claim(worker.id, [settlement(job, Ending.COMPLETE) for job in claimed])
        assert done.settled == [JobState.COMPLETED] * 9
        assert {queue: states[JobState.COMPLETED] for queue, states in (await storage.counts()).items()} == {
            "q0": 3,
            "q1": 3,
            "q2": 3,
        }
