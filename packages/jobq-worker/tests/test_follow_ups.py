"""`on_success` and `on_failure`: jobs that are stored with the end of another one, once."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from uuid import UUID

import pytest

from jobq_core import (
    Backoff,
    ConfigurationError,
    ErrorRecord,
    Job,
    JobCompleted,
    JobContext,
    JobFailed,
    JobRetried,
    JobState,
    PermanentJobError,
    Retention,
    RetryPolicy,
    StorageError,
    job,
)
from jobq_core.encoding import MAX_ARGUMENTS
from jobq_core.ids import new_id
from jobq_core.storage import JobFilter, QueueStorage
from jobq_core.testing import new_job, register_worker, start_one, worker_info

from .kit import Endings, Stage, add, ending, record, until, working
from .probe import Probe


@job(queue="mail", priority=3, max_attempts=2)
async def thank(job_id: UUID, result: str, order_id: int, greeting: str = "Dear") -> str:
    return f"{greeting} {order_id}: {result}"


@job
async def alert(kind: str, error: ErrorRecord, channel: str = "ops") -> str:
    return f"{channel}: {kind} {error.type} {error.message}"


@job(on_success=thank, on_failure=alert, max_attempts=2, retry=RetryPolicy(backoff=Backoff(base=0)))
async def charge(order_id: int, fail: bool = False) -> str:
    if fail:
        raise ValueError("no card")
    return "paid"


@job(on_success=thank, on_failure=alert, max_attempts=1)
def charge_in_thread(order_id: int, fail: bool = False) -> str:
    return "paid in a thread" if not fail else 1 / 0  # type: ignore[return-value]


async def all_of(storage: QueueStorage, *declared: Any) -> list[Any]:
    kinds = tuple(each.definition.kind for each in declared)
    found = (await storage.find(JobFilter(kinds=kinds))).jobs
    return [await record(storage, each.id) for each in found]  # type: ignore[arg-type]


@pytest.mark.parametrize("declared", [charge, charge_in_thread], ids=["async", "thread"])
async def test_a_completed_job_is_followed_by_its_on_success(storage: Probe, declared: Any) -> None:
    async with working(storage, declared, thank, queues=["default"]) as worker:
        endings = Endings(worker)
        job_id = await add(storage, declared(7), headers={"tenant": "a"}, run_id="nightly", queue="default")
        assert isinstance(await endings.of(job_id), JobCompleted)
    [followed] = await all_of(storage, thank, alert)
    result = "paid" if declared is charge else "paid in a thread"
    assert followed.arguments == {"job_id": str(job_id), "result": result, "order_id": 7}
    assert (followed.queue, followed.priority, followed.max_attempts) == ("mail", 3, 2)
    assert (followed.meta, followed.run_id, followed.parent) == ({"tenant": "a"}, "nightly", job_id)
    [settlement] = storage.settlements_of(job_id)
    assert [child.id for child in settlement.jobs] == [followed.id]


async def test_a_job_that_fails_for_good_is_followed_by_its_on_failure(storage: Probe) -> None:
    async with working(storage, charge, alert, thank) as worker:
        endings = Endings(worker)
        job_id = await add(storage, charge(7, fail=True))
        assert isinstance(await endings.of(job_id, 1), JobRetried)
        assert isinstance(await endings.of(job_id, 2), JobFailed)
        await until(lambda: worker.pool_stats().total.completed)
    [followed] = await all_of(storage, thank, alert)
    assert (followed.result, followed.parent) == ("ops: charge ValueError no card", job_id)
    assert [each.id for each in (await storage.find(JobFilter(parent=job_id))).jobs] == [followed.id]


async def test_a_failure_is_followed_at_once_by_the_worker_that_leads(storage: Probe) -> None:
    async with working(storage, alert) as leader:
        await until(lambda: leader.health().leads and storage.calls["resolve"])
        async with working(storage, charge) as other, asyncio.timeout(5):  # and not when it would look anyway
            await add(storage, charge(7, fail=True), max_attempts=1)
            await until(lambda: leader.pool_stats().total.completed)
            assert not other.health().leads


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_failure_is_followed_once_whatever_becomes_of_the_call(storage: Probe, after: bool) -> None:
    storage.fail("resolve", 2, after=after)
    job_id = await add(storage, charge(7, fail=True), max_attempts=1)
    async with working(storage, charge, alert) as worker:
        await storage.called("resolve", 3)
        await until(lambda: worker.pool_stats().total.completed)
    assert (await record(storage, job_id)).state is JobState.FAILED
    assert len(await all_of(storage, alert)) == 1
    assert await storage.resolve() == []


async def test_the_last_attempt_lost_with_its_worker_is_followed(storage: Probe) -> None:
    lost = await register_worker(storage)
    job_id = await add(storage, charge(7), max_attempts=1)
    await start_one(storage, lost)
    async with working(storage, alert) as worker:
        await until(lambda: worker.health().leads)
        await storage.deregister(lost.id)
        await storage.register(worker_info())  # which tells the leader to look
        await until(lambda: worker.pool_stats().total.completed)
    [followed] = await all_of(storage, alert)
    assert (await record(storage, job_id)).state is JobState.FAILED
    assert followed.result == f"ops: charge jobq_core.errors.WorkerLostError worker ({lost.id}) missed its heartbeat"


async def test_a_deadline_that_passes_where_the_job_waits_is_followed(storage: Probe) -> None:
    async with working(storage, alert) as worker:
        await storage.called("expire")
        await add(storage, charge(1), deadline=0.05)  # BLOCKED: of a kind that no worker knows
        await add(storage, charge(1), delay=600, deadline=0.05)
        await until(lambda: worker.pool_stats().total.completed == 2)
    said = "ops: charge jobq_core.errors.JobDeadlineError its deadline passed before it could start"
    assert [each.result for each in await all_of(storage, alert)] == [said, said]


async def test_an_ending_that_the_storage_refuses_is_followed_as_the_failure_that_it_becomes(storage: Probe) -> None:
    @job(on_success=thank, on_failure=alert)
    async def act(order_id: int) -> str:
        storage.fail("settle_and_claim", 3, error=StorageError("no room"))
        return "x"

    async with working(storage, act, alert) as worker:
        assert isinstance(await ending(worker, storage, act(1)), JobFailed)
        await until(lambda: worker.pool_stats().total.completed)
    [followed] = await all_of(storage, thank, alert)
    assert followed.result == "ops: act jobq_core.errors.StorageError the storage refused how this run ended: no room"


async def test_a_failure_that_is_kept_for_no_time_is_followed(storage: Probe) -> None:
    kept = Retention(completed=None, failed=0)
    async with working(storage, charge, alert, retention=kept) as worker:
        await storage.called("prune")
        job_id = await add(storage, charge(7, fail=True), max_attempts=1)

        async def is_gone() -> bool:
            return await storage.get([job_id]) == [None]

        await until(is_gone)
        await until(lambda: worker.pool_stats().total.completed)
    [followed] = await all_of(storage, alert)
    assert followed.result == "ops: charge ValueError no card"


async def test_a_follow_up_that_fails_is_followed_by_its_own(storage: Probe) -> None:
    @job
    async def page(kind: str, channel: str, error: ErrorRecord) -> str:
        return f"{kind} to {channel}: {error.message}"

    @job(on_failure=page, max_attempts=1)
    async def send(job_id: UUID, error: ErrorRecord, channel: str = "ops") -> None:
        raise PermanentJobError(f"no route for {error.message}")

    @job(on_failure=send, max_attempts=1)
    async def act(channel: str) -> None:
        raise ValueError("the first")

    async with working(storage, act, send, page) as worker:
        await add(storage, act("dev"))
        await until(lambda: worker.pool_stats().total.completed)
    [followed] = await all_of(storage, page)
    assert followed.result == "send to dev: no route for the first"


async def test_a_failure_is_followed_as_the_program_that_added_the_job_declares(storage: Probe) -> None:
    @job(name="act", on_failure=alert)
    async def act() -> None: ...

    @job(name="act", on_failure=thank(new_id(), "", 7))
    async def act_of_the_worker() -> None:
        raise PermanentJobError("broken")

    async with working(storage, act_of_the_worker, alert) as worker:
        await add(storage, act())
        await until(lambda: worker.pool_stats().total.completed)
    assert [each.kind for each in await all_of(storage, thank, alert)] == ["alert"]


async def test_a_large_job_that_fails_is_followed_by_one_with_its_arguments_and_the_error(storage: Probe) -> None:
    @job
    async def keep(text: str, error: ErrorRecord) -> int:
        return len(text)

    @job(on_failure=keep)
    async def read(text: str) -> None:
        raise PermanentJobError("x" * 4000)

    async with working(storage, read, keep) as worker:
        await add(storage, read("x" * (MAX_ARGUMENTS - 20)))
        await until(lambda: worker.pool_stats().total.completed)
    [followed] = await all_of(storage, keep)
    assert followed.result == MAX_ARGUMENTS - 20


async def test_a_stored_follow_up_that_cannot_be_read_is_logged_and_holds_up_no_other(
    storage: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    broken = new_job(kind="charge_in_thread", arguments=b'{"order_id":1,"fail":true}', max_attempts=1, follow_up=b"[]")
    await storage.add([broken])
    async with working(storage, charge_in_thread, alert) as worker:
        await add(storage, charge_in_thread(2, fail=True))
        await until(lambda: worker.pool_stats().total.completed)
    assert f"job {broken.id} (charge_in_thread) failed, and its stored follow-up cannot be read" in caplog.text
    assert len(await all_of(storage, alert)) == 1


async def test_the_follow_up_runs_with_its_arguments(storage: Probe) -> None:
    async with working(storage, charge, thank) as worker:
        await add(storage, charge(7))
        await until(lambda: worker.pool_stats().total.completed == 2)
    [followed] = await all_of(storage, thank)
    assert followed.result == "Dear 7: paid"


async def test_a_job_value_follows_as_it_is(storage: Probe) -> None:
    @job
    async def tidy(folder: str) -> None: ...

    @job(on_success=tidy("/tmp/a"))
    class Unpack(Job[None]):
        path: str

        async def execute(self) -> None: ...

    async with working(storage, Unpack) as worker:
        assert isinstance(await ending(worker, storage, Unpack("x"), headers={"a": "b"}, run_id="r"), JobCompleted)
    [followed] = await all_of(storage, tidy)
    assert (followed.arguments, followed.meta, followed.run_id) == ({"folder": "/tmp/a"}, {"a": "b"}, "r")


async def test_a_follow_up_comes_after_what_the_handler_added(storage: Probe) -> None:
    @job
    async def first() -> None: ...

    @job
    async def last() -> None: ...

    @job(on_success=last)
    async def parent(context: JobContext) -> None:
        context.add(first())

    async with working(storage, parent) as worker:
        job_id = (await ending(worker, storage, parent())).job_id
    [settlement] = storage.settlements_of(job_id)
    assert [child.kind for child in settlement.jobs] == ["first", "last"]


async def test_a_timeout_and_a_deadline_in_the_worker_are_failures(storage: Probe, stage: Stage) -> None:
    @job(on_failure=alert, max_attempts=1)
    def hang(context: JobContext) -> None:
        while not context.wait_aborted(30):
            pass

    async with working(storage, hang) as worker:
        endings = Endings(worker)
        ids = [await add(storage, hang(), timeout=0.001), await add(storage, hang(), deadline=0.05)]
        assert [type(each) for each in await endings.all(ids)] == [JobFailed, JobFailed]

        async def are_added() -> bool:
            return len(await all_of(storage, alert)) == 2

        await until(are_added)


async def test_no_other_ending_is_followed(storage: Probe, stage: Stage) -> None:
    @job(on_success=thank, on_failure=alert)
    async def wait(order_id: int) -> str:
        stage.reach("started")
        await asyncio.Event().wait()
        return ""

    async with working(storage, wait) as worker:
        endings = Endings(worker)
        aborted = await add(storage, wait(1))
        await stage.reached("started")
        await storage.abort([aborted])
        await endings.of(aborted)
        await storage.abort([await add(storage, wait(1), delay=600)])
        await storage.delete([await add(storage, wait(1), delay=600)])
        await add(storage, wait(2))
        await until(lambda: worker.pool_stats().total.running)
    assert await storage.resolve() == []
    assert await all_of(storage, thank, alert) == []


async def test_a_run_that_fails_after_its_job_was_asked_to_abort_is_not_followed(storage: Probe) -> None:
    @job(on_failure=alert)
    async def act(context: JobContext) -> None:
        await storage.abort([context.job_id])
        raise PermanentJobError("broken")

    async with working(storage, act) as worker:
        job_id = (await ending(worker, storage, act())).job_id
    assert (await record(storage, job_id)).state is JobState.ABORTED
    assert await storage.resolve() == []


async def test_a_lost_answer_stores_the_follow_up_once(storage: Probe) -> None:
    @job(on_success=thank)
    async def parent(order_id: int) -> str:
        storage.fail("settle_and_claim", after=True)
        return "x"

    async with working(storage, parent) as worker:
        assert isinstance(await ending(worker, storage, parent(1)), JobCompleted)
        assert len(await all_of(storage, thank)) == 1


async def test_a_result_that_is_too_large_to_be_an_argument_leaves_the_ending_as_it_is(
    storage: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    @job
    async def read(result: str) -> None: ...

    @job(on_success=read)
    async def large() -> str:
        return "x" * 300_000

    async with working(storage, large) as worker:
        with caplog.at_level(logging.ERROR):
            assert isinstance(await ending(worker, storage, large()), JobCompleted)
    assert "its follow-up read cannot be added" in caplog.text
    assert await all_of(storage, read) == []


def test_a_follow_up_that_needs_what_is_not_there_is_refused_at_the_declaration() -> None:
    with pytest.raises(ConfigurationError, match="job act: on_success=alert needs 'error'; it can take job_id"):

        @job(on_success=alert)
        def act() -> None: ...

    with pytest.raises(ConfigurationError, match="on_failure=thank needs 'result'"):

        @job(on_failure=thank)
        class Act(Job[None]):
            order_id: int

    with pytest.raises(ConfigurationError, match="is not a job"):

        @job(on_success=print)  # type: ignore[call-overload]
        def act_too() -> None: ...


async def test_an_operator_who_has_a_failed_job_run_again_gets_its_success(storage: Probe) -> None:
    broken = [True]

    @job(on_success=thank, on_failure=alert)
    async def act(order_id: int) -> str:
        if broken:
            raise PermanentJobError("broken")
        return "ok"

    async with working(storage, act) as worker:
        endings = Endings(worker)
        job_id = await add(storage, act(1))
        assert isinstance(await endings.of(job_id), JobFailed)
        broken.clear()
        await storage.retry([job_id])
        assert isinstance(await endings.of(job_id, 2), JobCompleted)

        async def are_added() -> bool:
            return sorted(each.kind for each in await all_of(storage, thank, alert)) == ["alert", "thank"]

        await until(are_added)
