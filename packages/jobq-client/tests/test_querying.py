from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from jobq_client import JobHandle, JobQueueClient, querying
from jobq_core import ConfigurationError, JobRecord, JobState
from jobq_core.errors import InvalidJobError
from jobq_core.parents import with_parent
from jobq_core.testing import add_job
from jobq_core.testing.contract.logs import new_part

from .helpers import ManualWorker, Probe, record_of
from .jobs import Thumbnail, keep, send_letter, send_receipt


def ids(records: list[JobRecord]) -> set[Any]:
    return {record.id for record in records}


async def test_get_returns_the_record_by_handle_id_or_text(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(send_receipt(1), max_attempts=1)
    await worker.fail(await worker.claim_one(), "ValueError", "bad")
    record = await client.get(handle)
    assert record is not None
    assert record == await client.get(handle.id) == await client.get(str(handle.id))
    assert (record.state, record.attempt, len(record.attempts)) == (JobState.FAILED, 1, 1)
    assert record.attempts[0].error.message == "bad"


async def test_get_of_an_unknown_id_returns_none(client: JobQueueClient) -> None:
    assert await client.get(uuid4()) is None
    with pytest.raises(InvalidJobError):
        await client.get("x")


@pytest.fixture
async def jobs(client: JobQueueClient, worker: ManualWorker) -> dict[str, JobHandle[Any]]:
    done = await client.add(send_receipt(1), tags=["red"], run_id="night")
    await worker.run()
    failed = await client.add(send_receipt(2), tags=["red", "blue"])
    await worker.fail(await worker.claim_one(), "ValueError", "the server times out")
    letter = await client.add(send_letter("x"), tags=["blue"], run_id="night")
    later = await client.add(Thumbnail("a"), delay=60)
    return {"done": done, "failed": failed, "letter": letter, "later": later}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, "done failed letter later"),
        ({"state": JobState.FAILED}, "failed"),
        ({"state": [JobState.FAILED, JobState.COMPLETED]}, "done failed"),
        ({"state": "scheduled"}, "later"),
        ({"queue": "mail"}, "letter"),
        ({"kind": "send_receipt"}, "done failed"),
        ({"kind": send_letter}, "letter"),
        ({"kind": [Thumbnail, "send_letter"]}, "letter later"),
        ({"tag": "red"}, "done failed"),
        ({"tag": ["red", "blue"]}, "failed"),
        ({"run_id": "night"}, "done letter"),
        ({"run_id": "night", "state": JobState.PENDING}, "letter"),
        ({"queue": "nowhere"}, ""),
    ],
    ids=str,
)
async def test_jobs_are_found_that_match_all_conditions(
    client: JobQueueClient, jobs: dict[str, JobHandle[Any]], wanted: dict[str, Any], found: str
) -> None:
    expected = {jobs[name].id for name in found.split()}
    assert ids((await client.find(**wanted)).jobs) == expected
    assert {record.id async for record in client.find_all(**wanted, page_size=1)} == expected


async def test_an_unknown_condition_is_refused_by_name(client: JobQueueClient) -> None:
    wrong: dict[str, Any] = {"sate": JobState.FAILED, "queue": "mail"}
    with pytest.raises(TypeError, match=r"find\(\) has no condition sate"):
        await client.find(**wrong)
    with pytest.raises(TypeError, match=r"count\(\) has no condition sate"):
        await client.count(**wrong)
    with pytest.raises(TypeError, match=r"find_all\(\) has no condition sate"):
        await anext(client.find_all(**wrong))


async def test_jobs_are_found_by_the_time_they_were_added(client: JobQueueClient, storage: Probe) -> None:
    first = await client.add(keep(1))
    added = (await record_of(storage, first.id)).created_at
    later = added + timedelta(seconds=60)
    assert ids((await client.find(since=added)).jobs) == {first.id}
    assert ids((await client.find(since=later)).jobs) == ids((await client.find(until=added)).jobs) == set()
    assert await client.count(since=added, until=later) == 1


async def test_jobs_are_found_by_their_error(client: JobQueueClient, jobs: dict[str, JobHandle[Any]]) -> None:
    assert ids((await client.find(error_type="ValueError")).jobs) == {jobs["failed"].id}
    assert ids((await client.find(error_type="KeyError")).jobs) == set()
    assert ids((await client.find(error="TIMES out")).jobs) == {jobs["failed"].id}
    assert await client.count(error="times", state=JobState.FAILED) == 1


async def test_jobs_are_found_by_their_worker(
    client: JobQueueClient, worker: ManualWorker, jobs: dict[str, JobHandle[Any]]
) -> None:
    expected = {jobs["done"].id, jobs["failed"].id}
    assert ids((await client.find(worker=worker.id)).jobs) == ids((await client.find(worker=str(worker.id))).jobs)
    assert ids((await client.find(worker=worker.id)).jobs) == expected
    assert await client.count(worker=uuid4()) == 0


async def test_jobs_are_found_by_the_job_that_added_them(
    client: JobQueueClient, storage: Probe, jobs: dict[str, JobHandle[Any]]
) -> None:
    parent = jobs["failed"].id
    child = await add_job(storage, meta=with_parent(None, parent))
    assert ids((await client.find(parent=parent)).jobs) == ids((await client.find(parent=str(parent))).jobs) == {child}
    assert await client.count(parent=jobs["done"].id) == 0
    record = await client.get(child)
    assert record is not None
    assert record.parent == parent
    with pytest.raises(InvalidJobError):
        await client.find(parent="x")


@pytest.mark.parametrize(
    "value",
    [7, "7", None, [1, {"a": None}], UUID(int=7), datetime(2026, 1, 2, tzinfo=UTC), {"b": 1, "a": 2}],
    ids=str,
)
async def test_jobs_are_found_by_an_argument_as_they_were_added(client: JobQueueClient, value: Any) -> None:
    handle = await client.add(keep(value))
    await client.add(keep("another"))
    assert ids((await client.find(argument=("value", value))).jobs) == {handle.id}
    assert [record.id async for record in client.find_all(argument=("value", value))] == [handle.id]
    assert ids((await client.find(argument=("other", value))).jobs) == set()


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        ({"since": 5}, ConfigurationError, "since must be an aware datetime"),
        ({"until": datetime(2026, 1, 1)}, ConfigurationError, "until needs a time zone"),  # noqa: DTZ001
        ({"error_type": ""}, ConfigurationError, "error_type must be text"),
        ({"error": ""}, ConfigurationError, "error must be text"),
        ({"error": "x" * 1001}, ConfigurationError, "error must be text"),
        ({"argument": "value"}, ConfigurationError, "argument must be a name and a value"),
        ({"argument": (7, 7)}, ConfigurationError, "argument must be a name and a value"),
        ({"argument": ("value", object())}, InvalidJobError, "argument value"),
        ({"worker": "manual"}, InvalidJobError, "not a job id"),
    ],
    ids=range(9),
)
async def test_a_search_that_cannot_work_is_refused(
    client: JobQueueClient, wanted: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await client.find(**wanted)


async def test_a_count_ends_at_its_limit(client: JobQueueClient) -> None:
    await client.add_many(keep(n) for n in range(5))
    assert await client.count(kind=keep, limit=5) == 5
    assert await client.count(kind=keep, limit=4) is None
    with pytest.raises(ConfigurationError, match="limit must be a whole number"):
        await client.count(limit=-1)


async def test_depths_are_those_of_every_queue_or_of_one(
    client: JobQueueClient, jobs: dict[str, JobHandle[Any]]
) -> None:
    assert {(depth.queue, depth.state): depth.jobs for depth in await client.depths()} == {
        ("default", JobState.COMPLETED): 1,
        ("default", JobState.FAILED): 1,
        ("default", JobState.SCHEDULED): 1,
        ("mail", JobState.PENDING): 1,
    }
    [mail] = await client.depths("mail")
    record = await client.get(jobs["letter"])
    assert record is not None
    assert mail.oldest == record.since
    with pytest.raises(ConfigurationError, match="queue must be text"):
        await client.depths("")


async def test_why_says_what_a_job_waits_for_in_one_sentence(
    client: JobQueueClient, jobs: dict[str, JobHandle[Any]]
) -> None:
    later = await client.why(jobs["later"])
    assert later.code == "delayed"
    assert later.sentence.startswith("it is delayed until ")
    assert (await client.why(str(jobs["done"].id))).code == "completed"
    assert (await client.why(uuid4())).code == "not-found"


async def test_logs_returns_what_the_handler_logged(
    client: JobQueueClient, storage: Probe, jobs: dict[str, JobHandle[Any]]
) -> None:
    done = jobs["done"]
    await storage.write_logs([new_part(done.id, 3, 0, "a", "b"), new_part(done.id, 5, 0, "c", attempt=2)])
    lines = await client.logs(done)
    assert [(line.attempt, line.level, line.logger, line.message) for line in lines] == [
        (1, "INFO", "shop.mail", "a"),
        (1, "INFO", "shop.mail", "b"),
        (2, "INFO", "shop.mail", "c"),
    ]
    assert await client.logs(str(done.id), attempt=2) == lines[2:]
    assert await client.logs(jobs["later"]) == await client.logs(uuid4()) == []
    with pytest.raises(ConfigurationError, match="attempt must be"):
        await client.logs(done, attempt=0)


async def test_pages_lead_from_the_newest_to_the_oldest(client: JobQueueClient) -> None:
    handles = await client.add_many(keep(n) for n in range(5))
    newest_first = [handle.id for handle in reversed(handles)]
    first = await client.find(limit=2)
    assert [record.id for record in first.jobs] == newest_first[:2]
    second = await client.find(limit=2, after=first.cursor)
    assert [record.id for record in second.jobs] == newest_first[2:4]
    last = await client.find(limit=2, after=second.cursor)
    assert [record.id for record in last.jobs] == newest_first[4:]
    assert last.cursor is None
    assert [record.id async for record in client.find_all(page_size=2)] == newest_first


async def test_all_pages_are_found_by_a_generator_of_states_too(client: JobQueueClient) -> None:
    await client.add_many(keep(n) for n in range(3))
    found = [record async for record in client.find_all(state=(s for s in [JobState.PENDING]), page_size=1)]
    assert len(found) == 3


@pytest.mark.parametrize("limit", [0, 1001, 1.5, True])
async def test_a_page_has_from_1_to_1000_jobs(client: JobQueueClient, limit: Any) -> None:
    with pytest.raises(ConfigurationError, match="limit"):
        await client.find(limit=limit)


async def test_peeking_gives_the_next_pending_jobs_by_priority_then_age(
    client: JobQueueClient, worker: ManualWorker
) -> None:
    await client.add(keep("done"))
    await worker.run()
    await client.add(keep("later"), delay=60)
    await client.add(keep("elsewhere"), queue="mail")
    low, first, second, high = [
        await client.add(keep(n), priority=priority) for n, priority in enumerate((-1, 0, 0, 9))
    ]
    order = [high.id, first.id, second.id, low.id]
    for n in (1, 2, 3, 4, 1000):
        assert [record.id for record in await client.peek(n)] == order[:n]
    assert [record.id for record in await client.peek()] == order[:1]
    assert [job.id for job in await worker.claim(4)] == order
    assert await client.peek(5) == []
    assert len(await client.peek(5, queue="mail")) == 1


async def test_peeking_reads_page_after_page(client: JobQueueClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(querying, "MAX_PAGE", 2)
    handles = await client.add_many(keep(n) for n in range(5))
    assert [record.id for record in await client.peek(2)] == [handle.id for handle in handles[:2]]


@pytest.mark.parametrize("n", [0, 1001, 1.5, True, None])
async def test_peeking_gives_from_1_to_1000_jobs(client: JobQueueClient, n: Any) -> None:
    with pytest.raises(ConfigurationError, match="n must be a whole number from 1 to 1000"):
        await client.peek(n)


async def test_a_state_that_does_not_exist_is_refused(client: JobQueueClient) -> None:
    with pytest.raises(ConfigurationError, match=r"unknown state 'lost'; expected one of scheduled, blocked"):
        await client.find(state="lost")  # type: ignore[arg-type]


async def test_jobs_are_counted_by_state(client: JobQueueClient, jobs: dict[str, JobHandle[Any]]) -> None:
    counts = await client.counts()
    assert counts == dict.fromkeys(JobState, 0) | {
        JobState.COMPLETED: 1,
        JobState.FAILED: 1,
        JobState.SCHEDULED: 1,
    }
    assert await client.size() == 0
    assert await client.size(state=JobState.FAILED) == 1
    assert await client.size("mail") == 1
    assert (await client.counts("nowhere"))[JobState.PENDING] == 0


async def test_two_queues_in_one_storage_do_not_see_each_others_jobs(storage: Probe, worker: ManualWorker) -> None:
    async with JobQueueClient(storage, "a") as a, JobQueueClient(storage, "b") as b:
        await a.add(keep(1))
        await b.add_many([keep(2), keep(3)])
        assert (await a.size(), await b.size()) == (1, 2)
        assert await worker.claim() == []
        assert await a.clear() == 1
        assert (await a.size(), await b.size()) == (0, 2)
        assert await a.clear("b") == 2
        assert await b.size() == 0


@pytest.mark.parametrize("name", ["kind", "tag", "run_id", "queue"])
async def test_a_name_that_no_job_can_have_is_refused(client: JobQueueClient, name: str) -> None:
    wanted: dict[str, Any] = {name: "a\0"}
    with pytest.raises(ConfigurationError, match=name):
        await client.find(**wanted)


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("it cannot be shown")


JUNK: list[Any] = [Unshowable(), True, 0, 1.5, b"x", object(), "no such thing", 10**5000]


@pytest.mark.parametrize("value", JUNK, ids=range(len(JUNK)))
async def test_invalid_conditions_are_refused_by_name(client: JobQueueClient, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"state must be several|unknown state"):
        await client.find(state=value)
    with pytest.raises(ConfigurationError, match="unknown state"):
        await client.size(state=[value])  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="unknown state"):
        await client.find(state=[value])
    with pytest.raises(InvalidJobError, match="not a job id"):
        await client.find(after=value)
    with pytest.raises(ConfigurationError, match=r"kind must be|declare"):
        await client.find(kind=value if not isinstance(value, str) else [value, 5])
    with pytest.raises(ConfigurationError, match=r"tag must be"):
        await client.find(tag=value if not isinstance(value, str) else [value, 5])


@pytest.mark.parametrize("value", [None, 5, "send", object()])
async def test_add_many_of_something_else_than_jobs_adds_nothing(client: JobQueueClient, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"jobs must be several, as in add_many\(\[job, another\]\)"):
        await client.add_many(value)
    assert sum((await client.counts()).values()) == 0


async def test_a_callback_that_is_not_callable_is_refused(client: JobQueueClient) -> None:
    handle = await client.add(keep(1))
    with pytest.raises(ConfigurationError, match="on_progress needs a function"):
        client.on_progress(handle, "print")  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [True, -1, "5", float("nan"), float("inf"), 10**400])
async def test_a_timeout_of_the_wrong_type_is_refused(client: JobQueueClient, timeout: Any) -> None:
    handle = await client.add(keep(1))
    with pytest.raises(ConfigurationError, match="timeout must be 0 seconds or more"):
        await client.wait_for(handle, timeout=timeout)
