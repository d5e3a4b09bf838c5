from __future__ import annotations

import asyncio
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


@pytest.mark.parametrize("call", ["abort", "retry", "disable", "enable", "delete"])
async def test_control_of_an_unknown_job_raises_job_not_found(client: JobQueueClient, call: str) -> None:
    missing = uuid4()
    with pytest.raises(JobNotFoundError, match=str(missing)):
        await getattr(client, call)(missing)


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
