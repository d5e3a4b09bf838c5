from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Sequence

import pytest

from jobq_client import JobQueueClient
from jobq_client import group_commit as group_commit_module
from jobq_client.group_commit import MAX_BYTES, MAX_DIRECT, GroupCommit
from jobq_core import (
    ClosedError,
    InvalidJobError,
    SchemaError,
    StorageError,
    StorageReadOnlyError,
    StorageUnavailableError,
    UniqueKeyBusyError,
)
from jobq_core.ids import new_id
from jobq_core.retry import Backoff
from jobq_core.storage import Added, NewJob

from .helpers import AWAY, Probe, total, until
from .jobs import keep, send_receipt

AT_ONCE = Backoff(base=0)


def new_job(arguments: bytes = b"{}") -> NewJob:
    return NewJob(id=new_id(), queue="default", kind="keep", arguments=arguments)


async def test_a_lone_add_is_one_statement(storage: Probe, client: JobQueueClient) -> None:
    await client.add(send_receipt(1))
    await client.add(send_receipt(2))
    assert [len(batch) for batch in storage.added] == [1, 1]


async def test_50_concurrent_adds_share_one_statement(storage: Probe, client: JobQueueClient) -> None:
    handles = await asyncio.gather(*(client.add(send_receipt(n)) for n in range(50)))
    assert [len(batch) for batch in storage.added] == [50]
    assert len({handle.id for handle in handles}) == 50


async def test_adds_during_a_statement_go_into_the_next_one(storage: Probe, client: JobQueueClient) -> None:
    gate = storage.hold("add")
    first = asyncio.create_task(client.add(send_receipt(0)))
    await until(lambda: storage.calls["add"] == 1)
    rest = [asyncio.create_task(client.add(send_receipt(n))) for n in range(20)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert storage.calls["add"] == 1
    gate.set()
    await asyncio.gather(first, *rest)
    assert [len(batch) for batch in storage.added] == [1, 20]


async def test_lone_adds_are_sent_from_their_callers_task(storage: Probe, client: JobQueueClient) -> None:
    await client.add(keep(0))
    tasks: list[asyncio.Task[None] | None] = []
    storage.refuse = lambda job: tasks.append(asyncio.current_task())
    for n in range(3):
        await client.add(keep(n))
    assert tasks == [asyncio.current_task()] * 3


async def test_lone_adds_to_a_storage_that_never_waits_let_other_tasks_run(
    storage: Probe, client: JobQueueClient
) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(other())
    for n in range(10 * MAX_DIRECT):
        await client.add(keep(n))
    task.cancel()
    assert turns >= 9


async def test_adds_that_come_while_a_lone_add_is_under_way_form_one_group(
    storage: Probe, client: JobQueueClient
) -> None:
    await client.add(keep(0))
    gate = storage.hold("add")
    adds = [asyncio.create_task(client.add(keep(n))) for n in range(4)]
    await until(lambda: storage.calls["add"] == 3)
    for _ in range(10):
        await asyncio.sleep(0)
    assert storage.calls["add"] == 3
    gate.set()
    await asyncio.gather(*adds)
    assert [len(batch) for batch in storage.added] == [1, 1, 3]


@pytest.mark.parametrize("end", ["cancelled", "refused"])
async def test_a_lone_add_that_fails_does_not_affect_concurrent_adds(
    storage: Probe, client: JobQueueClient, end: str
) -> None:
    await client.add(keep(0))
    gate = storage.hold("add")
    adds = [asyncio.create_task(client.add(keep(n))) for n in range(1, 4)]
    await until(lambda: storage.calls["add"] == 2)
    if end == "cancelled":
        adds[0].cancel()
    else:
        storage.refuse = lambda job: StorageError("no") if json.loads(job.arguments)["value"] == 1 else None
    gate.set()
    outcomes = await asyncio.gather(*adds, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError if end == "cancelled" else StorageError)
    assert not any(isinstance(outcome, BaseException) for outcome in outcomes[1:])
    assert await total(storage) == 3


@pytest.mark.parametrize("after", [False, True])
async def test_a_lone_add_is_retried_during_an_outage(storage: Probe, client: JobQueueClient, after: bool) -> None:
    await client.add(keep(0))
    storage.fail("add", times=2, after=after)
    assert (await client.add(keep(1))).created
    assert len({job.id for batch in storage.added[1:] for job in batch}) == 1
    assert await total(storage) == 2


async def test_stopping_waits_for_a_lone_add_and_concurrent_adds(storage: Probe) -> None:
    client = JobQueueClient(storage)
    await client.start()
    await client.add(keep(0))
    gate = storage.hold("add")
    adds = [asyncio.create_task(client.add(keep(n))) for n in range(3)]
    await until(lambda: storage.calls["add"] == 2)
    stopping = asyncio.create_task(client.stop())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not stopping.done()
    gate.set()
    await stopping
    assert await total(storage) == 4
    await asyncio.gather(*adds)


async def test_a_job_that_cannot_be_encoded_fails_alone(storage: Probe, client: JobQueueClient) -> None:
    adds = [client.add(keep(value)) for value in (1, float("nan"), 2)]
    first, bad, last = await asyncio.gather(*adds, return_exceptions=True)
    assert isinstance(bad, InvalidJobError)
    assert not isinstance(first, BaseException)
    assert not isinstance(last, BaseException)
    assert await total(storage) == 2


async def test_a_job_that_the_storage_refuses_fails_alone(storage: Probe, client: JobQueueClient) -> None:
    storage.refuse = lambda job: StorageError("no room for this") if b"13" in job.arguments else None
    outcomes = await asyncio.gather(*(client.add(keep(n)) for n in range(50)), return_exceptions=True)
    failed = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)]
    assert failed == [13]
    assert isinstance(outcomes[13], StorageError)
    assert await total(storage) == 49


async def test_a_refused_job_is_found_in_few_statements(storage: Probe, client: JobQueueClient) -> None:
    storage.refuse = lambda job: StorageError("no") if b"777" in job.arguments else None
    await asyncio.gather(*(client.add(keep(n)) for n in range(1000)), return_exceptions=True)
    assert await total(storage) == 999
    assert storage.calls["add"] <= 2 * 10 + 1


async def test_an_unexpected_error_reaches_the_caller_of_its_job_only(storage: Probe, client: JobQueueClient) -> None:
    storage.refuse = lambda job: KeyError("a bug") if b"2" in job.arguments else None
    outcomes = await asyncio.gather(*(client.add(keep(n)) for n in range(5)), return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == [
        "JobHandle",
        "JobHandle",
        "KeyError",
        "JobHandle",
        "JobHandle",
    ]


async def test_a_wrong_schema_fails_all_jobs_after_one_statement(storage: Probe, client: JobQueueClient) -> None:
    storage.fail("add", SchemaError("run jobq migrate"))
    outcomes = await asyncio.gather(*(client.add(keep(n)) for n in range(5)), return_exceptions=True)
    assert all(isinstance(outcome, SchemaError) for outcome in outcomes)
    assert len(set(outcomes)) == 5
    assert storage.calls["add"] == 1


async def test_a_group_is_sent_again_with_the_same_ids_after_an_outage(storage: Probe, client: JobQueueClient) -> None:
    storage.fail("add", times=2)
    await asyncio.gather(*(client.add(keep(n)) for n in range(3)))
    assert storage.calls["add"] == 3
    assert len({tuple(job.id for job in batch) for batch in storage.added}) == 1
    assert await total(storage) == 3


async def test_a_commit_whose_answer_was_lost_makes_no_second_job(storage: Probe, client: JobQueueClient) -> None:
    storage.fail("add", after=True)
    handles = await asyncio.gather(*(client.add(keep(n)) for n in range(3)))
    assert await total(storage) == 3
    assert all(handle.created for handle in handles)


async def test_an_outage_while_a_refused_job_is_searched_loses_no_job(storage: Probe, client: JobQueueClient) -> None:
    storage.refuse = lambda job: StorageError("no") if b"0" in job.arguments else None
    storage.fail("add", StorageError("the group"))
    storage.fail("add")
    outcomes = await asyncio.gather(*(client.add(keep(n)) for n in range(4)), return_exceptions=True)
    assert [isinstance(outcome, StorageError) for outcome in outcomes] == [True, False, False, False]
    assert await total(storage) == 3


async def test_each_caller_gives_up_after_its_own_time_with_its_own_error() -> None:
    moment = 0.0
    attempts = 0

    async def send(jobs: object) -> list[Added]:
        nonlocal moment, attempts
        moment += 4.0
        attempts += 1
        raise StorageUnavailableError(AWAY)

    group_commit = GroupCommit(send, patience=10, closing=asyncio.Event(), backoff=AT_ONCE, now=lambda: moment)
    jobs = [new_job(), new_job()]
    errors = await asyncio.gather(*map(group_commit.add, jobs), return_exceptions=True)
    assert attempts == 3
    for job, error in zip(jobs, errors, strict=True):
        assert isinstance(error, StorageUnavailableError)
        assert str(error) == f"job {job.id} may or may not have been added: {AWAY}"
        assert str(error.__cause__) == AWAY
    assert errors[0] is not errors[1]


async def test_the_error_of_a_job_never_sent_says_that_it_was_not_added() -> None:
    gate = asyncio.Event()
    moment = 0.0

    async def send(jobs: object) -> list[Added]:
        await gate.wait()
        raise StorageUnavailableError(AWAY)

    group_commit = GroupCommit(send, patience=10, closing=asyncio.Event(), backoff=AT_ONCE, now=lambda: moment)
    sent = asyncio.create_task(group_commit.add(new_job()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    unsent = asyncio.create_task(group_commit.add(new_job()))
    await asyncio.sleep(0)
    moment = 11.0
    gate.set()
    with pytest.raises(StorageUnavailableError, match="may or may not have been added"):
        await sent
    with pytest.raises(StorageUnavailableError, match="was not added"):
        await unsent


async def test_a_cancelled_caller_does_not_cancel_the_others(storage: Probe, client: JobQueueClient) -> None:
    gate = storage.hold("add")
    adds = [asyncio.create_task(client.add(keep(n))) for n in range(3)]
    await until(lambda: storage.calls["add"] == 1)
    adds[0].cancel()
    gate.set()
    outcomes = await asyncio.gather(*adds, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert not any(isinstance(outcome, BaseException) for outcome in outcomes[1:])
    assert await total(storage) == 3


async def test_a_caller_cancelled_before_its_job_was_sent_adds_nothing(storage: Probe, client: JobQueueClient) -> None:
    gate = storage.hold("add")
    first = asyncio.create_task(client.add(keep(1)))
    await until(lambda: storage.calls["add"] == 1)
    second = asyncio.create_task(client.add(keep(2)))
    await asyncio.sleep(0)
    second.cancel()
    gate.set()
    await first
    with pytest.raises(asyncio.CancelledError):
        await second
    assert storage.calls["add"] == 1
    assert await total(storage) == 1


async def test_a_group_has_a_maximum_size() -> None:
    sizes: list[int] = []

    async def send(jobs: list[NewJob]) -> list[Added]:
        sizes.append(len(jobs))
        return [Added(job.id, True) for job in jobs]

    group_commit = GroupCommit(send, patience=10, closing=asyncio.Event())  # type: ignore[arg-type]
    await asyncio.gather(*(group_commit.add(new_job()) for _ in range(2500)))
    assert sizes == [1000, 1000, 500]
    sizes.clear()
    big = b"x" * (MAX_BYTES // 2)
    await asyncio.gather(*(group_commit.add(new_job(big)) for _ in range(5)))
    assert sizes == [2, 2, 1]


async def test_an_answer_of_the_wrong_length_raises_for_every_caller() -> None:
    async def send(jobs: object) -> list[Added]:
        return []

    group_commit = GroupCommit(send, patience=10, closing=asyncio.Event())
    outcomes = await asyncio.gather(group_commit.add(new_job()), group_commit.add(new_job()), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["the storage gave 0 answers to 1 jobs"] * 2


async def test_stopping_sends_accepted_jobs_before_it_closes_the_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Probe()
    monkeypatch.setattr("jobq_core.owned_storage.as_storage", lambda url: storage)
    client = JobQueueClient("memory://")
    await client.start()
    gate = storage.hold("add")
    adds = [asyncio.create_task(client.add(keep(1)))]
    await until(lambda: storage.calls["add"] == 1)
    adds.append(asyncio.create_task(client.add(keep(2))))
    await asyncio.sleep(0)
    stopping = asyncio.create_task(client.stop())
    await asyncio.sleep(0)
    gate.set()
    await stopping
    await asyncio.gather(*adds)
    async with storage:
        assert await total(storage) == 2


async def test_stopping_does_not_wait_for_an_outage_to_end(storage: Probe) -> None:
    client = JobQueueClient(storage, patience=3600)
    await client.start()
    storage.fail("add", times=1_000_000)
    adds = [asyncio.create_task(client.add(keep(1))), asyncio.create_task(client.add_many([keep(2)]))]
    await until(lambda: storage.calls["add"] >= 2)
    await client.stop()
    outcomes = await asyncio.gather(*adds, return_exceptions=True)
    assert all(isinstance(outcome, StorageUnavailableError) for outcome in outcomes)


async def test_adding_after_the_stop_is_refused(storage: Probe) -> None:
    async with JobQueueClient(storage) as client:
        pass
    with pytest.raises(ClosedError, match="not running"):
        await client.add(keep(1))
    with pytest.raises(ClosedError, match="not running"):
        await client.add_many([keep(1)])


async def test_the_group_runs_in_no_callers_context(storage: Probe, client: JobQueueClient) -> None:
    trace = contextvars.ContextVar("trace", default="none")
    seen: list[str] = []
    storage.refuse = lambda job: seen.append(trace.get())
    trace.set("mine")
    await client.add(keep(1))
    assert seen == ["none"]


async def test_callers_get_an_error_when_the_event_loop_cancels_their_group() -> None:
    async def send(jobs: object) -> list[Added]:
        await asyncio.Event().wait()
        raise AssertionError

    group_commit = GroupCommit(send, patience=10, closing=asyncio.Event())
    before = asyncio.all_tasks()
    add = asyncio.create_task(group_commit.add(new_job()))
    await until(lambda: len(asyncio.all_tasks() - before) == 2)
    (flusher,) = asyncio.all_tasks() - before - {add}
    await asyncio.sleep(0)
    flusher.cancel()
    with pytest.raises(ClosedError):
        await add


async def test_a_storage_that_refuses_all_jobs_gets_few_statements(storage: Probe, client: JobQueueClient) -> None:
    storage.refuse = lambda job: StorageError("the disk is full")
    outcomes = await asyncio.gather(*(client.add(keep(n)) for n in range(1000)), return_exceptions=True)
    assert all(isinstance(outcome, StorageError) for outcome in outcomes)
    assert storage.calls["add"] < 30


async def test_many_refused_jobs_do_not_make_the_others_fail(storage: Probe, client: JobQueueClient) -> None:
    storage.refuse = lambda job: StorageError("no") if json.loads(job.arguments)["value"] % 2 else None
    outcomes = await asyncio.gather(*(client.add(keep(n)) for n in range(100)), return_exceptions=True)
    assert [isinstance(outcome, StorageError) for outcome in outcomes] == [bool(n % 2) for n in range(100)]


async def test_adding_while_the_client_stops_is_refused() -> None:
    closing = asyncio.Event()
    closing.set()
    with pytest.raises(ClosedError):
        await GroupCommit(Probe().add, patience=10, closing=closing).add(new_job())


async def test_a_read_only_storage_fails_at_once(storage: Probe, client: JobQueueClient) -> None:
    def refuse(job: NewJob) -> None:
        raise StorageReadOnlyError("a standby")

    storage.refuse = refuse
    for _ in range(2):
        with pytest.raises(StorageReadOnlyError, match="standby"):
            await client.add(keep(1))
    answers = await asyncio.gather(*(client.add(keep(n)) for n in range(5)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StorageReadOnlyError] * 5
    with pytest.raises(StorageReadOnlyError):
        await client.add_many([keep(1), keep(2)])


class _Freezing:
    """A storage that answers one add and then no more. calls: how many adds it got."""

    def __init__(self) -> None:
        self.calls = 0

    async def add(self, jobs: Sequence[NewJob]) -> list[Added]:
        self.calls += 1
        if self.calls > 1:
            await asyncio.Event().wait()
        return [Added(job.id, True) for job in jobs]


async def _add_to_a_frozen_storage(adds: int, patience: float) -> tuple[list[object], float]:
    """Add over a storage that freezes after one add. Returns the errors, and how long it took."""
    group_commit = GroupCommit(_Freezing().add, patience=patience, closing=asyncio.Event())
    await group_commit.add(new_job())
    loop = asyncio.get_running_loop()
    began = loop.time()
    tasks = [asyncio.create_task(group_commit.add(new_job())) for _ in range(adds)]
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    return list(errors), loop.time() - began


@pytest.mark.parametrize("adds", [1, 2, 5])
async def test_an_add_to_a_frozen_storage_takes_about_its_patience(monkeypatch: pytest.MonkeyPatch, adds: int) -> None:
    monkeypatch.setattr(group_commit_module, "LEAST_SECONDS", 0.01)
    errors, took = await _add_to_a_frozen_storage(adds, 0.05)
    for error in errors:
        assert isinstance(error, StorageUnavailableError)
        assert "may or may not have been added: the storage did not answer within 0.05 s" in str(error)
    assert 0.05 <= took < 5


async def test_a_short_patience_leaves_the_storage_time_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit_module, "LEAST_SECONDS", 0.05)
    errors, took = await _add_to_a_frozen_storage(2, 0)
    assert all("did not answer within 0.05 s" in str(error) for error in errors)
    assert took >= 0.05


async def test_a_caller_that_is_cancelled_while_it_waits_for_a_frozen_storage_is_cancelled() -> None:
    storage = _Freezing()
    group_commit = GroupCommit(storage.add, patience=10, closing=asyncio.Event())
    await group_commit.add(new_job())
    adding = asyncio.create_task(group_commit.add(new_job()))
    await until(lambda: storage.calls == 2)
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding


async def test_a_plain_add_does_not_wait_for_a_unique_one(storage: Probe, client: JobQueueClient) -> None:
    storage.hold_unique = asyncio.Event()
    unique = asyncio.create_task(client.add(keep(1), unique="held"))
    await until(lambda: storage.calls["add"] == 1)
    handles = await asyncio.gather(*(client.add(keep(n)) for n in range(20)))
    assert len(handles) == 20
    assert not unique.done()
    storage.hold_unique.set()
    assert (await unique).created


async def test_a_busy_key_fails_its_own_jobs_alone_and_costs_one_more_group(
    storage: Probe, client: JobQueueClient
) -> None:
    def refuse(job: NewJob) -> Exception | None:
        return UniqueKeyBusyError("held", queue=job.queue, key="held") if job.unique_key == "held" else None

    storage.refuse = refuse
    adds = [client.add(keep(n), unique="held" if n % 2 else f"key {n}") for n in range(30)]
    answers = await asyncio.gather(*adds, return_exceptions=True)
    assert [isinstance(answer, UniqueKeyBusyError) for answer in answers] == [n % 2 == 1 for n in range(30)]
    assert answers[1] is not answers[3]
    assert [len(batch) for batch in storage.added] == [30, 15]
    assert (await client.add(keep(1), unique="another")).created


async def test_a_busy_key_that_the_storage_does_not_name_fails_its_whole_group(
    storage: Probe, client: JobQueueClient
) -> None:
    storage.refuse = lambda job: UniqueKeyBusyError("some key is held")
    answers = await asyncio.gather(*(client.add(keep(n), unique=f"{n}") for n in range(3)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["some key is held"] * 3


async def test_a_group_that_takes_too_long_is_sent_again_in_smaller_ones() -> None:
    moment = 0.0
    sent: list[int] = []

    async def send(jobs: Sequence[NewJob]) -> list[Added]:
        nonlocal moment
        size = sum(len(job.arguments) for job in jobs)
        sent.append(size)
        if size > MAX_BYTES // 3:
            moment += group_commit_module.SLOW_SECONDS
            raise StorageUnavailableError("the statement took too long")
        return [Added(job.id, True) for job in jobs]

    group_commit = GroupCommit(send, patience=60, closing=asyncio.Event(), backoff=AT_ONCE, now=lambda: moment)
    big = b'"' + b"x" * (MAX_BYTES // 16) + b'"'
    await asyncio.gather(*(group_commit.add(new_job(big)) for _ in range(20)))
    assert sent[0] > MAX_BYTES // 2
    assert sent[1] <= MAX_BYTES // 2
    assert sent[2] <= MAX_BYTES // 4


async def test_groups_grow_again_after_an_outage_of_many_slow_failures() -> None:
    moment = 0.0
    away = True
    sent: list[int] = []

    async def send(jobs: Sequence[NewJob]) -> list[Added]:
        nonlocal moment, away
        await asyncio.sleep(0)
        if away:
            moment += group_commit_module.SLOW_SECONDS
            away = moment < 40 * group_commit_module.SLOW_SECONDS
            raise StorageUnavailableError("no answer")
        sent.append(len(jobs))
        return [Added(job.id, True) for job in jobs]

    group_commit = GroupCommit(send, patience=3600, closing=asyncio.Event(), backoff=AT_ONCE, now=lambda: moment)
    await asyncio.gather(*(group_commit.add(new_job()) for _ in range(100)))
    assert sent[-1] > 10


async def test_an_earlier_try_counts_towards_the_patience_and_its_job_may_have_been_added() -> None:
    storage = Probe()
    storage.fail("add", times=3)
    moment = 100.0
    group_commit = GroupCommit(storage.add, patience=10, closing=asyncio.Event(), backoff=AT_ONCE, now=lambda: moment)
    job = new_job()
    with pytest.raises(StorageUnavailableError, match=f"job {job.id} may or may not have been added: {AWAY}"):
        await group_commit.add(job, spent=10)
    assert storage.calls["add"] == 1
    await group_commit.close()
