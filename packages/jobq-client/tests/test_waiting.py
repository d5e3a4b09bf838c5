from __future__ import annotations

import asyncio
import contextvars
import json
import sys
from typing import Any
from uuid import uuid4

import pytest

from jobq_client import JobQueueClient
from jobq_core import (
    AbortSignalJobError,
    ClosedError,
    ConfigurationError,
    InvalidJobError,
    JobDisabledError,
    JobError,
    JobNotFoundError,
    JobState,
    StorageError,
    StorageUnavailableError,
    WaitTimeoutError,
)
from jobq_core.memory import MemoryQueueStorage
from jobq_core.states import Ending

from .helpers import AWAY, ManualWorker, Probe, until
from .jobs import CardDeclinedError, OutOfStockError, Receipt, convert, keep, print_receipt, send_receipt


async def test_it_returns_the_result(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(send_receipt(order_id=7))
    waiting = asyncio.create_task(client.wait_for(handle, timeout=60))
    await worker.run(b'"sent"')
    assert await waiting == "sent"


async def test_a_handle_gives_the_declared_type_and_an_id_plain_values(
    client: JobQueueClient, worker: ManualWorker
) -> None:
    handle = await client.add(print_receipt(3))
    await worker.run(b'{"number":3,"lines":["a"]}')
    assert await client.wait_for(handle) == Receipt(3, ["a"])
    assert await handle.result() == Receipt(3, ["a"])
    assert await client.wait_for(handle.id) == {"number": 3, "lines": ["a"]}
    assert await client.wait_for(str(handle.id)) == {"number": 3, "lines": ["a"]}


@pytest.mark.parametrize("value", [0, False, "", None, [], {}, 0.0], ids=repr)
async def test_a_falsy_result_comes_back_as_it_was(client: JobQueueClient, worker: ManualWorker, value: Any) -> None:
    handle = await client.add(keep(1))
    await worker.run(json.dumps(value).encode())
    for result in (await handle.result(), await client.wait_for(handle.id)):
        assert result == value
        assert type(result) is type(value)


async def test_a_result_that_does_not_fit_its_declared_type_is_an_error(
    client: JobQueueClient, worker: ManualWorker
) -> None:
    handle = await client.add(send_receipt(1))
    await worker.run(b"[1]")
    with pytest.raises(InvalidJobError, match="result of send_receipt"):
        await handle.result()


async def test_it_raises_the_declared_type_of_error(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(send_receipt(1))
    await worker.fail(await worker.claim_one(), f"{CardDeclinedError.__module__}.CardDeclinedError", "no money")
    with pytest.raises(CardDeclinedError, match=r"^no money\n"):
        await handle.result()


async def test_it_raises_a_loaded_kind_of_job_error(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(send_receipt(1))
    await worker.fail(await worker.claim_one(), f"{OutOfStockError.__module__}.OutOfStockError", "none left")
    with pytest.raises(OutOfStockError, match=r"^none left\n"):
        await client.wait_for(handle.id)


@pytest.mark.parametrize("name", ["builtins.ZeroDivisionError", "ZeroDivisionError"])
async def test_it_raises_a_builtin_error(client: JobQueueClient, worker: ManualWorker, name: str) -> None:
    handle = await client.add(send_receipt(1))
    await worker.fail(await worker.claim_one(), name, "division by zero")
    with pytest.raises(ZeroDivisionError, match=r"^division by zero\n"):
        await handle.result()


async def test_an_error_of_a_type_unknown_here_is_a_job_error_with_its_name_and_nothing_is_imported(
    client: JobQueueClient, worker: ManualWorker
) -> None:
    sys.modules.pop("colorsys", None)
    handle = await client.add(send_receipt(1))
    await worker.fail(await worker.claim_one(), "colorsys.ShopError", "closed")
    with pytest.raises(JobError, match=r"^ShopError: closed\n") as caught:
        await handle.result()
    assert type(caught.value) is JobError
    assert caught.value.type_name == "colorsys.ShopError"
    assert "colorsys" not in sys.modules


async def test_a_note_on_the_error_says_where_it_was_raised(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(send_receipt(1))
    await worker.fail(await worker.claim_one(), "ValueError", "bad", "Traceback …\n  line 3\nValueError: bad\n")
    with pytest.raises(ValueError, match="bad") as caught:
        await handle.result()
    assert caught.value.__notes__ == [
        f"Job {handle.id} (send_receipt), attempt 1, on worker {worker.id}:\nTraceback …\n  line 3\nValueError: bad"
    ]


async def test_it_raises_when_the_job_was_aborted(client: JobQueueClient) -> None:
    handle = await client.add(send_receipt(1))
    waiting = asyncio.create_task(handle.result())
    await asyncio.sleep(0)
    assert await handle.abort()
    with pytest.raises(AbortSignalJobError, match=str(handle.id)):
        await waiting


async def test_it_raises_when_the_job_is_disabled(client: JobQueueClient) -> None:
    handle = await client.add(send_receipt(1))
    waiting = asyncio.create_task(handle.result())
    await asyncio.sleep(0)
    await client.disable(handle)
    with pytest.raises(JobDisabledError, match=str(handle.id)):
        await waiting
    with pytest.raises(JobDisabledError):
        await handle.result()


async def test_waiting_goes_on_while_the_job_is_retried(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(send_receipt(1))
    waiting = asyncio.create_task(handle.result())
    job = await worker.claim_one()
    assert await worker.settle(job, Ending.RETRY) is JobState.PENDING
    await worker.run(b'"second time"')
    assert await waiting == "second time"


async def test_an_unknown_id_is_not_found(client: JobQueueClient) -> None:
    missing = uuid4()
    for key in (missing, str(missing)):
        with pytest.raises(JobNotFoundError, match=str(missing)):
            await client.wait_for(key, timeout=60)
        with pytest.raises(JobNotFoundError, match=str(missing)):
            await client.wait_for(key, timeout=0)


async def test_text_that_is_not_an_id_is_refused(client: JobQueueClient) -> None:
    with pytest.raises(InvalidJobError, match="'seven' is not a job id"):
        await client.wait_for("seven")


async def test_a_job_deleted_while_it_is_waited_for_is_not_found(client: JobQueueClient) -> None:
    handle = await client.add(send_receipt(1))
    waiting = asyncio.create_task(handle.result())
    await asyncio.sleep(0)
    await client.delete(handle)
    with pytest.raises(JobNotFoundError):
        await waiting


async def test_a_timeout_raises_leaves_nothing_subscribed_and_lets_the_job_go_on(
    storage: Probe, client: JobQueueClient, worker: ManualWorker
) -> None:
    handle = await client.add(send_receipt(1))
    with pytest.raises(WaitTimeoutError, match=r"has not ended after 0\.01 seconds: it is pending"):
        await handle.result(timeout=0.01)
    assert storage.calls["subscribe"] == 1
    assert storage.listening == 0
    await worker.run(b'"sent"')
    assert await handle.result() == "sent"


async def test_a_timeout_is_a_builtin_timeout_error_too(client: JobQueueClient) -> None:
    handle = await client.add(send_receipt(1))
    with pytest.raises(TimeoutError):
        await handle.result(timeout=0.001)


async def test_a_timeout_of_0_reads_the_status_once(
    storage: Probe, client: JobQueueClient, worker: ManualWorker
) -> None:
    handle = await client.add(send_receipt(1))
    with pytest.raises(WaitTimeoutError, match="pending"):
        await handle.result(timeout=0)
    assert (storage.calls["get_status"], storage.calls["subscribe"]) == (1, 0)
    await worker.run(b'"sent"')
    assert await handle.result(timeout=0) == "sent"


@pytest.mark.parametrize("timeout", [-1, float("nan"), "soon"])
async def test_an_invalid_timeout_is_refused(client: JobQueueClient, timeout: Any) -> None:
    handle = await client.add(send_receipt(1))
    with pytest.raises(ConfigurationError, match="timeout"):
        await handle.result(timeout=timeout)


async def test_a_job_finished_before_the_call_needs_no_notification(storage: Probe, worker: ManualWorker) -> None:
    storage.silent = True
    async with JobQueueClient(storage, poll=3600) as client:
        handle = await client.add(send_receipt(1))
        await worker.run(b'"sent"')
        assert await handle.result() == "sent"


async def test_a_client_started_after_the_end_gets_the_result(worker: ManualWorker, storage: Probe) -> None:
    async with JobQueueClient(storage) as client:
        job_id = str((await client.add(send_receipt(1))).id)
    await worker.run(b'"sent"')
    async with JobQueueClient(storage) as client:
        assert await client.wait_for(job_id) == "sent"


async def test_a_client_that_did_not_add_the_job_waits_for_it(worker: ManualWorker, client: JobQueueClient) -> None:
    handle = await client.add(send_receipt(1))
    async with JobQueueClient(worker.storage) as other:
        waiting = asyncio.create_task(other.wait_for(handle.id))
        await asyncio.sleep(0)
        await worker.run(b'"sent"')
        assert await waiting == "sent"


async def test_without_notifications_polling_finds_the_end(storage: Probe, worker: ManualWorker) -> None:
    storage.silent = True
    async with JobQueueClient(storage, poll=0.01) as client:
        handle = await client.add(send_receipt(1))
        waiting = asyncio.create_task(handle.result())
        await until(lambda: storage.calls["get_status"] == 1)
        await worker.run(b'"sent"')
        assert await waiting == "sent"


async def test_with_notifications_a_waiter_does_not_wait_for_the_poll(storage: Probe, worker: ManualWorker) -> None:
    async with JobQueueClient(storage, poll=3600) as client:
        handle = await client.add(send_receipt(1))
        waiting = asyncio.create_task(handle.result())
        await until(lambda: storage.calls["get_status"] == 1)
        await worker.run(b'"sent"')
        assert await waiting == "sent"


async def test_a_job_that_ends_between_the_read_and_its_answer_is_not_missed(
    storage: Probe, worker: ManualWorker
) -> None:
    async with JobQueueClient(storage, poll=3600) as client:
        handle = await client.add(send_receipt(1))
        gate = storage.hold("get_status", after=True)
        waiting = asyncio.create_task(handle.result())
        await until(lambda: storage.calls["get_status"] == 1)
        await worker.run(b'"sent"')
        gate.set()
        assert await waiting == "sent"


async def test_a_job_that_ends_before_the_subscription_is_made_is_not_missed(
    storage: Probe, worker: ManualWorker
) -> None:
    async with JobQueueClient(storage, poll=3600) as client:
        handle = await client.add(send_receipt(1))
        gate = storage.hold("enter")
        waiting = asyncio.create_task(handle.result())
        await until(lambda: storage.calls["enter"] == 1)
        await worker.run(b'"sent"')
        gate.set()
        assert await waiting == "sent"


async def test_1000_waiters_cost_one_subscription_and_one_query_per_notification(
    storage: Probe, client: JobQueueClient, worker: ManualWorker
) -> None:
    handles = await client.add_many(keep(n) for n in range(1000))
    waiting = [asyncio.create_task(handle.result()) for handle in handles]
    await until(lambda: storage.status_reads == [1000])
    jobs = await worker.claim()
    for job in jobs[:3]:
        looks = storage.calls["get_status"]
        await worker.complete(job, job.arguments)
        await until(lambda before=looks: storage.calls["get_status"] > before)  # type: ignore[misc]
    assert storage.status_reads == [1000, 1000, 999, 998]
    for job in jobs[3:]:
        await worker.complete(job, job.arguments)
    results = await asyncio.gather(*waiting)
    assert [result["value"] for result in results] == list(range(1000))
    assert (storage.calls["subscribe"], storage.listening) == (1, 0)
    assert storage.calls["get_status"] <= 7


async def test_nothing_is_read_without_waiters(storage: Probe, worker: ManualWorker) -> None:
    async with JobQueueClient(storage, poll=0.01) as client:
        handle = await client.add(keep(1))
        await worker.run()
        await handle.result()
        await until(lambda: storage.listening == 0)
        before = storage.calls.copy()
        await client.add(keep(2))
        await worker.run()
        # Five polls: that nothing happens can only be waited for.
        await asyncio.sleep(0.05)
        assert storage.calls - before == {"add": 1}


async def test_progress_of_jobs_that_are_only_waited_for_costs_no_query(storage: Probe, worker: ManualWorker) -> None:
    async with JobQueueClient(storage, poll=3600) as client:
        handle = await client.add(keep(1))
        waiting = asyncio.create_task(handle.result())
        await until(lambda: storage.calls["get_status"] == 1)
        job = await worker.claim_one()
        for percent in range(100):
            await worker.report(job, percent)
            await asyncio.sleep(0)
        assert storage.calls["get_status"] == 1
        await worker.complete(job)
        await waiting


async def test_a_second_waiter_shares_the_subscription_and_is_served_at_once(
    storage: Probe, worker: ManualWorker
) -> None:
    async with JobQueueClient(storage, poll=3600) as client:
        handle = await client.add(send_receipt(1))
        waiting = [asyncio.create_task(handle.result()) for _ in range(2)]
        await until(lambda: storage.calls["get_status"] == 1)
        waiting.append(asyncio.create_task(client.wait_for(handle.id)))
        await until(lambda: storage.calls["get_status"] == 2)
        await worker.run(b'"sent"')
        assert await asyncio.gather(*waiting) == ["sent"] * 3
        assert storage.calls["subscribe"] == 1


async def test_a_cancelled_waiter_leaves_nothing_subscribed_and_the_others_waiting(
    storage: Probe, client: JobQueueClient, worker: ManualWorker
) -> None:
    handle = await client.add(send_receipt(1))
    first = asyncio.create_task(handle.result())
    second = asyncio.create_task(handle.result())
    await until(lambda: storage.listening == 1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert storage.listening == 1
    await worker.run(b'"sent"')
    assert await second == "sent"
    await until(lambda: storage.listening == 0)


async def test_waiting_goes_on_through_an_outage(storage: Probe, worker: ManualWorker) -> None:
    async with JobQueueClient(storage, poll=0.01) as client:
        handle = await client.add(send_receipt(1))
        storage.fail("get_status", times=3)
        waiting = asyncio.create_task(handle.result(timeout=30))
        await until(lambda: storage.calls["get_status"] == 3)
        await worker.run(b'"sent"')
        assert await waiting == "sent"


async def test_waiting_goes_on_while_a_subscription_cannot_be_made(storage: Probe, worker: ManualWorker) -> None:
    async with JobQueueClient(storage) as client:
        handle = await client.add(send_receipt(1))
        storage.fail("enter", times=3)
        waiting = asyncio.create_task(handle.result(timeout=30))
        await until(lambda: storage.calls["enter"] == 3)
        await worker.run(b'"sent"')
        assert await waiting == "sent"
        await until(lambda: storage.listening == 0)


async def test_without_any_subscription_polling_finds_the_end(storage: Probe, worker: ManualWorker) -> None:
    async with JobQueueClient(storage) as client:
        handle = await client.add(send_receipt(1))
        storage.fail("enter", times=1_000_000)
        waiting = asyncio.create_task(handle.result(timeout=30))
        await until(lambda: storage.calls["enter"] == 1)
        await worker.run(b'"sent"')
        assert await waiting == "sent"


async def test_a_broken_subscription_is_replaced(storage: Probe, worker: ManualWorker) -> None:
    async with JobQueueClient(storage, poll=3600) as client:
        handle = await client.add(send_receipt(1))
        storage.fail("wait")
        waiting = asyncio.create_task(handle.result(timeout=30))
        await until(lambda: storage.calls["subscribe"] == 2 and storage.listening == 1)
        await worker.run(b'"sent"')
        assert await waiting == "sent"


async def test_a_job_that_ends_while_the_subscription_is_replaced_is_not_missed(
    storage: Probe, worker: ManualWorker
) -> None:
    async with JobQueueClient(storage, poll=3600) as client:
        handle = await client.add(send_receipt(1))
        waiting = asyncio.create_task(handle.result(timeout=30))
        await until(lambda: storage.calls["get_status"] == 1 and storage.calls["wait"] == 1)
        storage.fail("wait")
        gate = storage.hold("enter")
        other = await client.add(keep(1))
        await client.abort(other)  # notifies; the subscription breaks at its next wait
        await until(lambda: storage.calls["enter"] == 2)
        await worker.run(b'"sent"')
        looks = storage.calls["get_status"]
        gate.set()
        assert await waiting == "sent"
        assert storage.calls["get_status"] == looks + 1


async def test_a_notification_whose_read_failed_is_read_again(storage: Probe, worker: ManualWorker) -> None:
    async with JobQueueClient(storage, poll=3600) as client:
        handle = await client.add(send_receipt(1))
        waiting = asyncio.create_task(handle.result(timeout=30))
        await until(lambda: storage.calls["get_status"] == 1)
        storage.fail("get_status")
        await worker.run(b'"sent"')
        assert await waiting == "sent"
        assert storage.calls["get_status"] == 3


async def test_after_an_error_the_poller_starts_again_for_the_next_waiter(
    storage: Probe, client: JobQueueClient, worker: ManualWorker, caplog: pytest.LogCaptureFixture
) -> None:
    handle = await client.add(send_receipt(1))
    storage.fail("get_status", StorageError("the disk is broken"))
    client.on_progress(handle, print)
    await until(lambda: bool(caplog.messages))
    assert caplog.messages == [f"stopped following job {handle.id}: the disk is broken"]
    waiting = asyncio.create_task(handle.result(timeout=30))
    await worker.run(b'"sent"')
    assert await waiting == "sent"


async def test_a_timeout_during_an_outage_notes_it(storage: Probe, client: JobQueueClient) -> None:
    handle = await client.add(send_receipt(1))
    storage.fail("get_status", times=1_000_000)
    with pytest.raises(WaitTimeoutError, match="not known yet") as caught:
        await handle.result(timeout=0.01)
    assert caught.value.__notes__ == [f"the storage is unavailable: {AWAY}"]
    storage.mend("get_status")


async def test_a_timeout_of_0_during_an_outage_raises_unavailable(storage: Probe, client: JobQueueClient) -> None:
    handle = await client.add(send_receipt(1))
    storage.fail("get_status")
    with pytest.raises(StorageUnavailableError):
        await handle.result(timeout=0)


async def test_a_permanent_error_reaches_every_waiter_as_its_own(
    storage: Probe, client: JobQueueClient, worker: ManualWorker
) -> None:
    handles = await client.add_many([keep(1), keep(2)])
    storage.fail("get_status", StorageError("the disk is broken"))
    errors = await asyncio.gather(*(handle.result() for handle in handles), return_exceptions=True)
    assert [str(error) for error in errors] == ["the disk is broken"] * 2
    assert errors[0] is not errors[1]
    # … and the next wait starts afresh.
    await until(lambda: storage.listening == 0)
    waiting = asyncio.create_task(handles[0].result())
    await worker.run(b"5")
    assert await waiting == 5


async def test_a_client_that_stops_ends_its_waiters_with_a_clear_error(storage: Probe) -> None:
    client = JobQueueClient(storage)
    await client.start()
    handles = await client.add_many([keep(1), keep(2)])
    waiting = [asyncio.create_task(handle.result()) for handle in handles]
    await until(lambda: storage.listening == 1)
    await client.stop()
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [ClosedError, ClosedError]
    assert "closed during a wait for this job" in str(errors[0])
    assert storage.listening == 0
    with pytest.raises(ClosedError):
        await handles[0].result()


async def test_a_storage_closed_by_its_owner_ends_the_waiters() -> None:
    storage = Probe()
    await storage.open()
    async with JobQueueClient(storage) as client:
        handle = await client.add(keep(1))
        waiting = asyncio.create_task(handle.result())
        await until(lambda: storage.calls["get_status"] == 1)
        await storage.close()
        with pytest.raises(ClosedError):
            await waiting


async def test_stopping_while_the_storage_hangs_ends_the_waiters_at_once(storage: Probe) -> None:
    client = JobQueueClient(storage)
    await client.start()
    handle = await client.add(keep(1))
    storage.hold("get_status")
    waiting = asyncio.create_task(handle.result())
    await until(lambda: storage.calls["get_status"] == 1)
    await client.stop()
    with pytest.raises(ClosedError):
        await waiting


async def test_reads_are_spaced_while_notifications_concern_other_jobs(
    storage: Probe, client: JobQueueClient, worker: ManualWorker
) -> None:
    handle = await client.add(keep(0))
    mine = await worker.claim_one()
    waiting = asyncio.create_task(handle.result())
    await until(lambda: storage.calls["get_status"] == 1)
    others = await client.add_many(keep(n) for n in range(2000))
    for job in await worker.claim(len(others)):
        await worker.complete(job)
        await asyncio.sleep(0)
    assert storage.calls["get_status"] < 100
    await worker.complete(mine, b"1")
    assert await waiting == 1


async def test_waiting_for_a_retried_job_sees_its_new_end(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(send_receipt(1))
    await worker.fail(await worker.claim_one())
    with pytest.raises(ValueError):
        await handle.result()
    assert await client.retry(handle)
    waiting = asyncio.create_task(handle.result())
    await worker.run(b'"at last"')
    assert await waiting == "at last"


async def test_two_clients_share_a_named_memory_storage() -> None:
    url = f"memory://{uuid4()}"
    async with JobQueueClient(url) as adding, JobQueueClient(url) as waiting_client:
        handle = await adding.add(convert({"a": 1}))
        waiting = asyncio.create_task(waiting_client.wait_for(handle.id))
        async with MemoryQueueStorage.from_url(url) as storage:
            await (await ManualWorker(storage).register()).run(b'"png"')
        assert await waiting == "png"


async def test_an_error_that_cannot_be_copied_reaches_every_waiter(storage: Probe, client: JobQueueClient) -> None:
    class OddError(Exception):
        def __init__(self, *, code: int) -> None:
            super().__init__(f"code {code}")

    handles = await client.add_many([keep(1), keep(2)])
    storage.fail("get_status", OddError(code=5))
    errors = await asyncio.gather(*(handle.result() for handle in handles), return_exceptions=True)
    assert [str(error) for error in errors] == ["code 5"] * 2


async def test_an_unneeded_subscription_that_ends_with_an_error_is_logged(
    storage: Probe, client: JobQueueClient, worker: ManualWorker, caplog: pytest.LogCaptureFixture
) -> None:
    handle = await client.add(send_receipt(1))
    storage.fail("exit", StorageError("no UNLISTEN"))
    waiting = asyncio.create_task(handle.result())
    await worker.run(b'"sent"')
    assert await waiting == "sent"
    await until(lambda: bool(caplog.messages))
    assert caplog.messages == ["a subscription that was no longer needed ended with an error"]


async def test_the_poller_runs_in_no_waiters_context(
    storage: Probe, client: JobQueueClient, worker: ManualWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = contextvars.ContextVar("trace", default="none")
    seen: set[str] = set()
    peek = storage.get_status

    async def watched(ids: Any) -> Any:
        seen.add(trace.get())
        return await peek(ids)

    monkeypatch.setattr(storage, "get_status", watched)
    handle = await client.add(keep(1))
    trace.set("mine")
    waiting = asyncio.create_task(handle.result())
    await worker.run(b"1")
    assert await waiting == 1
    assert seen == {"none"}


async def test_a_waiter_that_comes_after_a_retry_does_not_get_the_failure_before_it(
    storage: Probe, client: JobQueueClient, worker: ManualWorker
) -> None:
    handle = await client.add(send_receipt(1))
    await worker.fail(await worker.claim_one())
    gate = storage.hold("get_status", after=True)
    before = asyncio.create_task(handle.result())
    await until(lambda: storage.calls["get_status"] == 1)
    await client.retry(handle)
    after = asyncio.create_task(handle.result())
    await asyncio.sleep(0)
    gate.set()
    with pytest.raises(ValueError):
        await before
    await worker.run(b'"sent"')
    assert await after == "sent"


async def test_a_subscription_that_keeps_breaking_is_made_again_with_a_backoff_and_logged_once(
    storage: Probe, client: JobQueueClient, worker: ManualWorker, caplog: pytest.LogCaptureFixture
) -> None:
    handle = await client.add(send_receipt(1))
    storage.fail("wait", times=3)
    waiting = asyncio.create_task(handle.result())
    await until(lambda: storage.calls["wait"] == 4)
    assert caplog.messages == [f"notifications are unavailable, polling instead: {AWAY}"]
    await worker.run(b'"sent"')
    assert await waiting == "sent"
