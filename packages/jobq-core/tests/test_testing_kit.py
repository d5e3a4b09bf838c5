"""What an application's tests use of `jobq_core.testing`: the clock, `run_inline`, `assert_added`."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from typing import Any
from unittest.mock import ANY
from uuid import UUID

import pytest

from jobq_core import (
    ConfigurationError,
    InvalidJobError,
    Job,
    JobContext,
    JobState,
    Secret,
    job,
    open_storage,
)
from jobq_core.adding import new_job
from jobq_core.ids import new_id
from jobq_core.storage import WAITING_TOPIC
from jobq_core.testing import (
    ManualClockStorage,
    assert_added,
    assert_not_added,
    read,
    register_worker,
    run_inline,
    run_inline_sync,
    state_of,
)
from jobq_core.testing import claim as claim_jobs
from jobq_core.testing.without_loop import run_to_end


@job(queue="images")
def thumbnail(path: str, width: int = 256) -> str:
    return f"{path}@{width}"


@job()
async def later(day: date) -> date:
    return day + timedelta(days=1)


@job()
async def count(context: JobContext, start: int) -> int:
    context.check_aborted()
    context.progress(50)
    return start + context.attempt


@job()
def login(user: str, password: Secret[str]) -> None: ...


@job()
def tagged(queue: str) -> None: ...


@job()
def untruthful() -> int:
    return "seven"  # type: ignore[return-value]


@job()
class Contract(Job[None]):
    path: str


@pytest.fixture
def storage() -> Any:
    with ManualClockStorage() as storage:
        yield storage


def add(storage: ManualClockStorage, added: Job[Any], **options: Any) -> UUID:
    [one] = run_to_end(storage.add([new_job(new_id(), added, "default", options)]))  # type: ignore[arg-type]
    return one.id


# The clock


async def test_time_moves_when_the_test_moves_it() -> None:
    async with ManualClockStorage(start=1_000_000.0) as storage:
        assert await storage.now() == datetime.fromtimestamp(1_000_000, UTC) == storage.clock.now()
        storage.clock.advance(timedelta(minutes=1))
        assert await storage.now() == datetime.fromtimestamp(1_000_060, UTC)


async def test_a_delayed_job_is_due_after_an_advance() -> None:
    async with ManualClockStorage() as storage:
        job_id = add(storage, thumbnail("a.png"), delay=60)
        storage.clock.advance(59)
        await storage.promote()
        assert await state_of(storage, job_id) is JobState.SCHEDULED
        storage.clock.advance(1)
        await storage.promote()
        assert await state_of(storage, job_id) is JobState.PENDING


async def test_an_advance_notifies_the_workers_that_wait_for_due_jobs() -> None:
    async with ManualClockStorage() as storage, storage.subscribe([WAITING_TOPIC]) as subscription:
        storage.clock.advance(1)
        assert await subscription.wait(10) == {WAITING_TOPIC}


async def test_an_advance_leaves_a_worker_its_leases() -> None:
    async with ManualClockStorage() as storage:
        worker = await register_worker(storage, queues=("images",), kinds=("thumbnail",), lost_after=30.0)
        job_id = add(storage, thumbnail("a.png"))
        assert len(await claim_jobs(storage, worker)) == 1
        storage.clock.advance(86_400)
        assert (await storage.rescue()).workers == []
        assert await state_of(storage, job_id) is JobState.PROCESSING


async def test_storages_of_its_name_take_a_connection_too() -> None:
    async with ManualClockStorage("taken") as storage, open_storage(storage.url) as other:
        new = new_job(new_id(), thumbnail("a.png"), "default", {})
        assert [added.created for added in await other.add([new], connection=object())] == [True]


async def test_a_connection_is_taken_and_does_nothing() -> None:
    async with ManualClockStorage() as storage:
        new = new_job(new_id(), thumbnail("a.png"), "default", {})
        assert [added.created for added in await storage.add([new], connection=object())] == [True]
        assert [change.changed for change in await storage.abort([new.id], connection=object())] == [True]
        assert [change.changed for change in await storage.retry([new.id], connection=object())] == [True]
        assert await storage.get([new.id], connection=object()) == await storage.get([new.id])


async def test_the_url_of_a_named_storage_opens_its_jobs_until_it_is_closed() -> None:
    async with ManualClockStorage("kit") as storage:
        add(storage, thumbnail("a.png"))
        async with open_storage(storage.url) as same:
            assert_added(same, thumbnail)
            assert await same.now() == storage.clock.now()
    async with open_storage("memory://kit") as other:
        assert_not_added(other)


# run_inline


async def test_a_sync_and_an_async_handler_run_and_return_their_results() -> None:
    assert await run_inline(thumbnail("a.png", width=4)) == "a.png@4"
    assert await run_inline(later(date(2026, 1, 31))) == date(2026, 2, 1)


def test_both_run_without_an_event_loop() -> None:
    assert run_inline_sync(thumbnail("a.png", width=4)) == "a.png@4"
    assert run_inline_sync(later(date(2026, 1, 31))) == date(2026, 2, 1)


def test_a_handler_gets_a_context_of_its_kind_or_the_given_one() -> None:
    assert run_inline_sync(count(start=1)) == 2
    assert run_inline_sync(count(start=1), context=JobContext(attempt=3)) == 4


def test_what_the_handler_raises_reaches_the_test() -> None:
    @job()
    def broken() -> None:
        raise LookupError("no such file")

    with pytest.raises(LookupError, match="no such file"):
        run_inline_sync(broken())


def test_arguments_and_results_go_through_json() -> None:
    @job()
    def kinds(pair: Any) -> list[str]:
        return [type(pair).__name__]

    assert run_inline_sync(kinds(pair=(1, 2))) == ["list"]
    with pytest.raises(InvalidJobError, match="untruthful"):
        run_inline_sync(untruthful())
    with pytest.raises(InvalidJobError, match="kinds cannot be written as JSON"):
        run_inline_sync(kinds(pair=object()))


def test_a_kind_and_a_bare_contract_cannot_be_run() -> None:
    with pytest.raises(ConfigurationError, match="call it with its arguments"):
        run_inline_sync(thumbnail)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no `execute`"):
        run_inline_sync(Contract("a.png"))


# assert_added


def test_an_added_job_is_found_by_kind_and_by_some_or_all_of_its_arguments(storage: ManualClockStorage) -> None:
    job_id = add(storage, thumbnail("a.png"))
    for record in (
        assert_added(storage, thumbnail),
        assert_added(storage, thumbnail, path="a.png"),
        assert_added(storage, thumbnail, path=ANY, width=256),
        assert_added(storage, thumbnail("a.png")),
    ):
        assert record.id == job_id
    assert_not_added(storage, thumbnail, path="b.png")
    assert_not_added(storage, thumbnail("a.png", width=4))
    assert_not_added(storage, later)


def test_typed_arguments_are_compared_as_values(storage: ManualClockStorage) -> None:
    add(storage, later(date(2026, 1, 31)))
    assert_added(storage, later, day=date(2026, 1, 31))


def test_options_are_compared(storage: ManualClockStorage) -> None:
    add(
        storage,
        thumbnail("a.png"),
        priority=5,
        delay=60,
        deadline=timedelta(hours=1),
        tags=["a", "b"],
        run_id="r",
        unique="u",
        timeout=7,
        max_attempts=3,
        headers={"trace": "1"},
    )
    assert_added(storage, thumbnail, queue="images", priority=5, delay=timedelta(minutes=1), deadline=3600)
    assert_added(storage, thumbnail, tags=["b", "a"], run_id="r", unique="u", timeout=7, max_attempts=3)
    assert_added(storage, thumbnail, headers={"trace": "1"})
    assert_added(storage, thumbnail, run_at=storage.clock.now() + timedelta(minutes=1))
    for wrong in ({"queue": "mail"}, {"delay": 30}, {"tags": ["a"]}, {"unique": None}, {"deadline": None}):
        assert_not_added(storage, thumbnail, **wrong)


def test_an_argument_goes_before_an_option_of_its_name(storage: ManualClockStorage) -> None:
    add(storage, tagged(queue="x"))
    assert_added(storage, tagged, queue="x")
    assert_not_added(storage, tagged, queue="default")


def test_the_number_of_jobs_can_be_asked_for(storage: ManualClockStorage) -> None:
    add(storage, thumbnail("a.png"))
    add(storage, thumbnail("b.png"))
    assert_added(storage, thumbnail, count=2)
    with pytest.raises(AssertionError, match=r"2 jobs, not 1, thumbnail\(\) were added; these 2 were:"):
        assert_added(storage, thumbnail, count=1)


def test_a_job_that_was_not_added_is_told_with_what_was(storage: ManualClockStorage) -> None:
    with pytest.raises(AssertionError, match=r"no job thumbnail\(path='a.png'\) was added; none was$"):
        assert_added(storage, thumbnail, path="a.png")
    add(storage, later(date(2026, 1, 31)))
    add(storage, thumbnail("b.png"))
    with pytest.raises(AssertionError) as caught:
        assert_added(storage, thumbnail, path="a.png", queue="mail")
    assert str(caught.value) == (
        "no job thumbnail(path='a.png') with queue='mail' was added; these 2 were:"
        "\n  thumbnail(path='b.png', width=256) in queue 'images', PENDING"
        "\n    path is 'b.png', not 'a.png'"
        "\n    queue is 'images', not 'mail'"
        "\n  later(day=datetime.date(2026, 1, 31)) in queue 'default', PENDING"
    )


def test_a_job_that_should_not_have_been_added_is_told(storage: ManualClockStorage) -> None:
    assert_not_added(storage)
    add(storage, thumbnail("b.png"))
    with pytest.raises(AssertionError, match=r"a job thumbnail\(path='b.png'\) was added:\n  thumbnail\(path='b.png'"):
        assert_not_added(storage, thumbnail, path="b.png")
    with pytest.raises(AssertionError, match="no job should have been added; this one was:"):
        assert_not_added(storage)


def test_no_secret_is_shown(storage: ManualClockStorage) -> None:
    add(storage, login("ann", Secret("hunter2")))
    with pytest.raises(AssertionError, match="user is 'ann', not 'bob'") as caught:
        assert_added(storage, login, user="bob")
    assert "hunter2" not in str(caught.value)


def test_a_mistyped_name_is_refused(storage: ManualClockStorage) -> None:
    with pytest.raises(ConfigurationError, match=r"no argument or option 'widht'; did you mean width\?"):
        assert_added(storage, thumbnail, widht=4)


async def test_a_job_that_has_run_was_added_all_the_same(storage: ManualClockStorage) -> None:
    worker = await register_worker(storage, queues=("images",), kinds=("thumbnail",))
    job_id = add(storage, thumbnail("a.png"))
    await claim_jobs(storage, worker)
    assert assert_added(storage, thumbnail).state is JobState.PROCESSING
    assert (await read(storage, job_id)).queue == "images"


# The plugin


def test_importing_the_kit_imports_no_pytest_and_the_plugin_no_jobq() -> None:
    script = "import sys, jobq_core.testing; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
    script = "import sys, pytest_jobq; assert 'jobq_core' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_fixture_of_the_plugin_is_the_storage_of_the_environment(
    job_storage: ManualClockStorage,
) -> None:
    add(job_storage, thumbnail("a.png"))
    with pytest.MonkeyPatch.context():
        same = open_storage()
        assert same.url == job_storage.url
