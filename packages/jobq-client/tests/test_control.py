from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from jobq_client import JobKey, JobQueueClient
from jobq_core import ConfigurationError, JobNotFoundError, JobState, JobStateError
from jobq_core.states import Ending

from .helpers import ManualWorker, record_of
from .jobs import keep, send_receipt


async def state_of(client: JobQueueClient, job: JobKey) -> JobState:
    record = await client.get(job)
    assert record is not None
    return record.state


@pytest.mark.parametrize("call", ["abort", "retry", "disable", "enable", "delete", "run_now"])
async def test_control_of_an_unknown_job_raises_job_not_found(client: JobQueueClient, call: str) -> None:
    missing = uuid4()
    with pytest.raises(JobNotFoundError, match=str(missing)):
        await getattr(client, call)(missing)


async def test_altering_an_unknown_job_raises_job_not_found(client: JobQueueClient) -> None:
    for call in (
        client.reschedule(uuid4(), delay=5),
        client.move(uuid4(), "mail"),
        client.set_priority(uuid4(), 5),
    ):
        with pytest.raises(JobNotFoundError):
            await call


async def test_a_job_can_be_named_by_handle_id_or_text(client: JobQueueClient) -> None:
    handles = await client.add_many([keep(1), keep(2), keep(3)])
    assert await client.abort(handles[0])
    assert await client.abort(handles[1].id)
    assert await client.abort(str(handles[2].id))


async def test_aborting_a_waiting_job_ends_it_at_once_and_aborting_again_changes_nothing(
    client: JobQueueClient, worker: ManualWorker
) -> None:
    pending = await client.add(keep(1))
    later = await client.add(keep(2), delay=60)
    for handle in (pending, later):
        assert await handle.abort()
        assert await state_of(client, handle) is JobState.ABORTED
        assert not await handle.abort()
    assert await worker.claim() == []


async def test_aborting_a_running_job_asks_it_to_stop(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(keep(1))
    job = await worker.claim_one()
    assert await handle.abort()
    record = await client.get(handle)
    assert record is not None
    assert record.aborting
    (hold,) = await worker.storage.check_leases(worker.id, [(job.id, job.lease)])
    assert hold.request is not None
    await worker.settle(job, Ending.ABORT)
    assert await state_of(client, handle) is JobState.ABORTED


async def test_aborting_a_finished_job_changes_nothing(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(keep(1))
    await worker.run(b"5")
    assert not await handle.abort()
    assert await handle.result() == 5


async def test_aborting_a_run_touches_only_that_run(client: JobQueueClient, worker: ManualWorker) -> None:
    await client.add(keep(0), run_id="night")
    await worker.run()
    await client.add(keep(1), run_id="night")
    running = await worker.claim_one()
    await client.add(keep(2), run_id="night")
    other = await client.add(keep(3), run_id="day")
    assert await client.abort_run("night") == 2
    assert await client.abort_run("nobody") == 0
    assert await state_of(client, other) is JobState.PENDING
    assert (await record_of(worker.storage, running.id)).aborting
    with pytest.raises(ConfigurationError, match="run_id"):
        await client.abort_run("")


@pytest.mark.parametrize("ending", [Ending.FAIL, Ending.ABORT])
async def test_retrying_puts_a_failed_or_aborted_job_back_with_all_attempts(
    client: JobQueueClient, worker: ManualWorker, ending: Ending
) -> None:
    handle = await client.add(send_receipt(1))
    await worker.settle(await worker.claim_one(), ending)
    assert await client.retry(handle)
    record = await client.get(handle)
    assert record is not None
    assert (record.state, record.attempt) == (JobState.PENDING, 0)
    await worker.run(b'"sent"')
    assert await handle.result() == "sent"


async def test_retrying_a_job_in_any_other_state_changes_nothing(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(keep(1))
    assert not await client.retry(handle)
    job = await worker.claim_one()
    assert not await client.retry(handle)
    await worker.complete(job)
    assert not await client.retry(handle)
    assert await state_of(client, handle) is JobState.COMPLETED


async def test_of_two_concurrent_retries_one_returns_true(client: JobQueueClient) -> None:
    handle = await client.add(keep(1))
    await client.abort(handle)
    assert sorted(await asyncio.gather(client.retry(handle), client.retry(handle))) == [False, True]


async def test_retrying_a_job_whose_key_another_holds_is_an_error_and_changes_nothing(
    client: JobQueueClient, worker: ManualWorker
) -> None:
    first = await client.add(keep(1), unique="one")
    await worker.fail(await worker.claim_one())
    await client.add(keep(2), unique="one")
    with pytest.raises(JobStateError, match="unique key"):
        await client.retry(first)
    assert await state_of(client, first) is JobState.FAILED


async def test_a_disabled_job_does_not_run_until_it_is_enabled(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(keep(1))
    assert await client.disable(handle)
    assert not await client.disable(handle)
    assert await worker.claim() == []
    assert await client.enable(handle)
    assert not await client.enable(handle)
    assert (await worker.claim_one()).id == handle.id


async def test_enabling_withdraws_the_request_to_disable_a_running_job(
    client: JobQueueClient, worker: ManualWorker
) -> None:
    handle = await client.add(keep(1))
    job = await worker.claim_one()
    assert await client.disable(handle)
    assert await client.enable(handle)
    assert not await client.enable(handle)
    (hold,) = await worker.storage.check_leases(worker.id, [(job.id, job.lease)])
    assert hold.held
    assert hold.request is None
    await worker.complete(job, b"1")
    assert await handle.result() == 1


async def test_the_settlement_of_a_deleted_job_changes_nothing(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(keep(1))
    job = await worker.claim_one()
    assert await client.delete(handle)
    assert await client.get(handle) is None
    assert await worker.settle(job, Ending.COMPLETE, result=b"1") is None
    assert await client.get(handle) is None


async def test_the_settlement_of_a_job_of_a_cleared_queue_changes_nothing(
    client: JobQueueClient, worker: ManualWorker
) -> None:
    handle = await client.add(keep(1))
    await client.add(keep(2), delay=60)
    job = await worker.claim_one()
    assert await client.clear() == 2
    assert await worker.settle(job, Ending.COMPLETE, result=b"1") is None
    assert await client.get(handle) is None
    assert sum((await client.counts()).values()) == 0


async def test_clear_and_abort_run_say_how_far_they_are(client: JobQueueClient) -> None:
    await client.add_many((keep(n) for n in range(1500)), run_id="import")
    told: list[int] = []
    assert await client.abort_run("import", on_progress=told.append) == 1500
    assert told
    assert told == sorted(told)
    assert told[-1] == 1500
    told.clear()
    assert await client.clear(on_progress=told.append) == 1500
    assert told[-1] == 1500


async def test_a_delayed_job_can_be_run_now(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(keep(1), delay=60)
    assert await client.run_now(handle)
    assert not await client.run_now(handle)
    assert (await worker.claim_one()).id == handle.id
    assert not await client.run_now(handle)


async def test_a_job_waits_until_the_time_that_it_is_rescheduled_to(
    client: JobQueueClient, worker: ManualWorker
) -> None:
    handle = await client.add(keep(1))
    moment = await client.storage.now() + timedelta(hours=1)
    assert await client.reschedule(handle, run_at=moment)
    record = await record_of(worker.storage, handle.id)
    assert (record.state, record.run_at) == (JobState.SCHEDULED, moment)
    for delay in (7200, timedelta(hours=2)):
        before = await client.storage.now()
        assert await client.reschedule(handle, delay=delay)
        record = await record_of(worker.storage, handle.id)
        assert record.run_at is not None
        assert before + timedelta(hours=2) <= record.run_at <= await client.storage.now() + timedelta(hours=2)
    assert await client.reschedule(handle, delay=0)
    await worker.run()
    assert not await client.reschedule(handle, delay=60)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ({}, "give reschedule a run_at or a delay"),
        ({"delay": 5, "run_at": datetime.now(UTC)}, "not both"),
        ({"delay": -1}, "delay must be from 0 seconds"),
        ({"delay": "5"}, "delay must be seconds"),
        ({"run_at": 5}, "run_at must be an aware datetime"),
        ({"run_at": datetime(2030, 1, 1)}, "run_at needs a time zone"),  # noqa: DTZ001
    ],
    ids=["neither", "both", "negative", "text", "number", "naive"],
)
async def test_a_time_that_cannot_work_is_refused(client: JobQueueClient, times: dict[str, Any], message: str) -> None:
    handle = await client.add(keep(1))
    with pytest.raises(ConfigurationError, match=message):
        await client.reschedule(handle, **times)
    assert await state_of(client, handle) is JobState.PENDING


async def test_a_job_can_be_moved_to_another_queue(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(keep(1), queue="misspelt")
    assert await worker.claim() == []
    assert await client.move(handle, "mail")
    assert not await client.move(handle, "mail")
    assert (await worker.claim_one()).queue == "mail"
    assert not await client.move(handle, "default")
    with pytest.raises(ConfigurationError, match="queue must be text"):
        await client.move(handle, "")


async def test_a_job_can_be_given_another_priority(client: JobQueueClient, worker: ManualWorker) -> None:
    first, second = await client.add(keep(1)), await client.add(keep(2))
    assert await client.set_priority(second, 1)
    assert not await client.set_priority(second, 1)
    assert [job.id for job in await worker.claim()] == [second.id, first.id]
    assert not await client.set_priority(second, 2)
    for priority in (101, -101, 1.5, "1", True):
        with pytest.raises(ConfigurationError, match="priority must be a whole number"):
            await client.set_priority(first, priority)  # type: ignore[arg-type]
