from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobq_client import JobQueueClient
from jobq_client.bulk import persist
from jobq_client.group_commit import SLOW_SECONDS
from jobq_core import Backoff, ConfigurationError, InvalidJobError, JobState, StorageUnavailableError
from jobq_core.encoding import MAX_ARGUMENTS
from jobq_core.ids import new_id
from jobq_core.storage import Added, NewJob

from .helpers import ManualWorker, Probe, record_of, total
from .jobs import Thumbnail, keep, send_letter, send_receipt


async def test_a_job_added_before_any_worker_starts_is_kept_and_runs_when_one_starts(
    storage: Probe, client: JobQueueClient
) -> None:
    handle = await client.add(send_receipt(order_id=7, copy_to="a@b.c"))
    assert await client.size() == 1
    claimed = await (await ManualWorker(storage).register()).claim_one()
    assert claimed.id == handle.id
    assert json.loads(claimed.arguments) == {"order_id": 7, "copy_to": "a@b.c"}


async def test_a_class_is_added_as_a_function_is(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(Thumbnail(path="a.png"))
    assert handle.kind == "Thumbnail"
    assert json.loads((await worker.claim_one()).arguments) == {"path": "a.png", "width": 256}


async def test_a_delay_is_stored(client: JobQueueClient) -> None:
    before = await client.storage.now()
    handle = await client.add(send_receipt(1), delay=90)
    after = await client.storage.now()
    record = await client.get(handle)
    assert record is not None
    assert record.state is JobState.SCHEDULED
    assert record.run_at is not None
    assert before + timedelta(seconds=90) <= record.run_at <= after + timedelta(seconds=90)


async def test_a_delay_may_be_a_timedelta(client: JobQueueClient) -> None:
    record = await client.get(await client.add(send_receipt(1), delay=timedelta(hours=1)))
    assert record is not None
    assert record.run_at is not None
    assert abs(record.run_at - record.created_at - timedelta(hours=1)) < timedelta(seconds=1)


async def test_a_run_at_is_stored(client: JobQueueClient) -> None:
    moment = datetime(2040, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)
    record = await client.get(await client.add(send_receipt(1), run_at=moment))
    assert record is not None
    assert (record.state, record.run_at) == (JobState.SCHEDULED, moment)


async def test_every_option_is_stored_with_the_job(client: JobQueueClient, worker: ManualWorker) -> None:
    deadline = datetime(2041, 1, 1, tzinfo=UTC)
    handle = await client.add(
        send_receipt(1),
        queue="mail",
        priority=-4,
        deadline=deadline,
        timeout=12.5,
        max_attempts=3,
        retry=Backoff(base=5.0),
        unique="order 1",
        run_id="night",
        tags=["red", "blue", "red"],
    )
    record = await client.get(handle)
    assert record is not None
    assert (record.queue, record.priority, record.deadline) == ("mail", -4, deadline)
    assert (record.timeout, record.max_attempts, record.unique_key) == (12.5, 3, "order 1")
    assert (record.run_id, record.tags) == ("night", ("red", "blue"))
    backoff = (await worker.claim_one()).backoff
    assert backoff is not None
    assert json.loads(backoff)["base"] == 5.0


async def test_the_kinds_declaration_holds_for_options_that_add_omits(client: JobQueueClient) -> None:
    handle = await client.add(send_letter(text="dear"))
    record = await client.get(handle)
    assert record is not None
    assert (record.queue, record.priority, record.max_attempts, record.timeout) == ("mail", 3, 4, 20.0)
    assert handle.queue == "mail"


async def test_the_queue_is_the_options_then_the_kinds_then_the_clients(storage: Probe) -> None:
    async with JobQueueClient(storage, "images") as client:
        assert (await client.add(keep(1))).queue == "images"
        assert (await client.add(send_letter("x"))).queue == "mail"
        assert (await client.add(send_letter("x"), queue="other")).queue == "other"


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


REFUSED = {
    "too large": "x" * MAX_ARGUMENTS,
    "NaN": math.nan,
    "infinity": [1.0, -math.inf],
    "NUL": {"a": "b\0c"},
    "a NUL in a key": {"a\0": 1},
    "a lone surrogate": "\ud800",
    "65 bits": [2**63],
    "65 bits below": -(2**63) - 1,
    "too deep": deep(65),
    "no JSON": object(),
}


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED.keys())
async def test_a_refused_argument_stores_nothing(storage: Probe, client: JobQueueClient, value: Any) -> None:
    with pytest.raises(InvalidJobError, match="keep"):
        await client.add(keep(value))
    with pytest.raises(InvalidJobError, match="keep"):
        await client.add_many([keep(1), keep(value)])
    assert storage.calls["add"] == 0
    assert await total(storage) == 0


@pytest.mark.parametrize("name", ["NaN", "infinity", "NUL", "a lone surrogate", "65 bits", "too deep"])
async def test_a_refused_argument_is_named(client: JobQueueClient, name: str) -> None:
    with pytest.raises(InvalidJobError, match=r"keep\.value|keep is nested|keep holds"):
        await client.add(keep(REFUSED[name]))


async def test_an_argument_of_the_wrong_type_is_named_and_stores_nothing(
    storage: Probe, client: JobQueueClient
) -> None:
    with pytest.raises(InvalidJobError, match="order_id"):
        await client.add(send_receipt(order_id="seven"))  # type: ignore[arg-type]
    assert await total(storage) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"priority": 101},
        {"delay": -1},
        {"delay": math.nan},
        {"delay": 1, "run_at": datetime(2040, 1, 1, tzinfo=UTC)},
        {"run_at": datetime(2040, 1, 1)},  # noqa: DTZ001
        {"deadline": "soon"},
        {"timeout": 0},
        {"max_attempts": 0},
        {"retry": 3},
        {"unique": "x\0"},
        {"run_id": 5},
        {"tags": "red"},
        {"queue": "q" * 256},
    ],
    ids=str,
)
async def test_a_refused_option_is_named_and_stores_nothing(
    storage: Probe, client: JobQueueClient, options: dict[str, Any]
) -> None:
    name = next(iter(options))
    with pytest.raises(ConfigurationError, match=name):
        await client.add(send_receipt(1), **options)
    assert await total(storage) == 0


async def test_an_option_that_does_not_exist_is_a_type_error(client: JobQueueClient) -> None:
    with pytest.raises(TypeError, match="prority"):
        await client.add(send_receipt(1), prority=3)  # type: ignore[call-arg]


async def test_something_else_than_a_job_is_refused(client: JobQueueClient) -> None:
    with pytest.raises(ConfigurationError, match="@job"):
        await client.add(print)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="call it"):
        await client.add(Thumbnail)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="call it"):
        await client.add_many([send_receipt(1), send_receipt])  # type: ignore[arg-type]


VALUES = ["", "žluťoučký kůň 🐎 \u2028", {"b": [1, [2.5, [None, True]]], "a": {}}, "x" * 200_000, [-(2**63), 2**63 - 1]]


@pytest.mark.parametrize("value", VALUES, ids=["empty", "unicode", "nested", "big", "64 bits"])
async def test_arguments_and_results_come_back_as_they_were(
    client: JobQueueClient, worker: ManualWorker, value: Any
) -> None:
    handle = await client.add(keep(value))
    claimed = await worker.claim_one()
    assert json.loads(claimed.arguments) == {"value": value}
    await worker.complete(claimed, json.dumps(value).encode())
    assert await handle.result() == value
    record = await client.get(handle)
    assert record is not None
    assert record.arguments == {"value": value}
    assert record.result == value


async def test_add_many_is_one_round_trip_in_the_order_given(
    storage: Probe, client: JobQueueClient, worker: ManualWorker
) -> None:
    handles = await client.add_many((send_receipt(n) for n in range(1000)), tags=["bulk"])
    assert storage.calls["add"] == 1
    assert all(handle.created for handle in handles)
    claimed = await worker.claim()
    assert [job.id for job in claimed] == [handle.id for handle in handles]
    assert [json.loads(job.arguments)["order_id"] for job in claimed] == list(range(1000))
    assert all(job.tags == ("bulk",) for job in claimed)


async def test_add_many_takes_jobs_of_several_kinds_each_with_what_it_declares(client: JobQueueClient) -> None:
    handles = await client.add_many([send_letter("a"), send_receipt(1), send_letter("b")], run_id="r")
    records = [await client.get(handle) for handle in handles]
    assert [(r.kind, r.queue, r.priority, r.run_id) for r in records if r] == [
        ("send_letter", "mail", 3, "r"),
        ("send_receipt", "default", 0, "r"),
        ("send_letter", "mail", 3, "r"),
    ]
    assert [r.arguments for r in records if r] == [
        {"text": "a"},
        {"order_id": 1, "copy_to": None},
        {"text": "b"},
    ]


async def test_add_many_of_an_empty_list_does_not_call_the_storage(storage: Probe, client: JobQueueClient) -> None:
    assert await client.add_many([]) == []
    assert storage.calls["add"] == 0


async def test_add_many_says_which_job_was_refused(client: JobQueueClient) -> None:
    with pytest.raises(InvalidJobError) as caught:
        await client.add_many([keep(1), keep(2), keep(math.nan)])
    assert caught.value.__notes__ == ["job 2 of the 3 given to add_many; none was added"]


async def test_a_huge_add_many_takes_several_round_trips(storage: Probe, client: JobQueueClient) -> None:
    await client.add_many(send_receipt(n) for n in range(10_001))
    assert [len(batch) for batch in storage.added] == [10_000, 1]
    storage.added.clear()
    await client.add_many(keep("x" * 250_000) for _ in range(150))
    assert sum(len(batch) for batch in storage.added) == 150
    assert all(sum(len(job.arguments) for job in batch) <= 32 * 1024 * 1024 for batch in storage.added)
    assert len(storage.added) == 2


async def test_a_huge_add_many_that_fails_says_what_was_added(storage: Probe, client: JobQueueClient) -> None:
    storage.refuse = lambda job: ValueError("no") if b"10000" in job.arguments else None
    with pytest.raises(ValueError, match="no") as caught:
        await client.add_many(send_receipt(n) for n in range(10_001))
    assert caught.value.__notes__ == ["the first 10000 of 10001 jobs were added"]


async def test_add_many_is_sent_again_after_an_outage_and_makes_no_second_job(
    storage: Probe, client: JobQueueClient
) -> None:
    storage.fail("add")
    storage.fail("add", after=True)
    handles = await client.add_many([send_receipt(1), send_receipt(2)])
    assert storage.calls["add"] == 3
    assert await total(storage) == 2
    assert all(handle.created for handle in handles)


async def test_add_many_gives_up_after_patience_seconds(storage: Probe) -> None:
    async with JobQueueClient(storage, patience=0) as client:
        storage.fail("add")
        with pytest.raises(StorageUnavailableError, match="2 jobs may or may not have been added"):
            await client.add_many([send_receipt(1), send_receipt(2)])
        assert storage.calls["add"] == 1


async def test_a_job_in_the_callers_transaction_is_sent_alone_and_once(storage: Probe, client: JobQueueClient) -> None:
    connection = object()
    handle = await client.add(send_receipt(1), connection=connection)
    handles = await client.add_many([send_receipt(2)], connection=connection)
    assert storage.given_connections == [connection, connection]
    assert handle.created
    assert handles[0].created
    storage.fail("add")
    with pytest.raises(StorageUnavailableError):
        await client.add(send_receipt(3), connection=connection)
    assert storage.calls["add"] == 3


async def test_the_memory_storage_refuses_a_connection(client: JobQueueClient) -> None:
    async with JobQueueClient("memory://") as plain:
        with pytest.raises(ConfigurationError, match="takes no connection="):
            await plain.add(send_receipt(1), connection=object())


async def test_the_record_shows_what_was_added(storage: Probe, client: JobQueueClient) -> None:
    handle = await client.add(send_receipt(7))
    assert await client.get(handle) == await record_of(storage, handle.id)
    assert repr(handle) == f"<JobHandle {handle.id} (send_receipt, queue 'default')>"


async def test_a_batch_that_takes_too_long_is_sent_in_halves() -> None:
    moment = 0.0
    sent: list[int] = []

    async def send(jobs: Sequence[NewJob]) -> list[Added]:
        nonlocal moment
        sent.append(len(jobs))
        if len(jobs) > 3:
            moment += SLOW_SECONDS
            raise StorageUnavailableError("the statement took too long")
        return [Added(job.id, True) for job in jobs]

    jobs = [NewJob(id=new_id(), queue="default", kind="keep", arguments=b"{}") for _ in range(10)]
    added = await persist(send, jobs, patience=60, closing=asyncio.Event(), backoff=Backoff(base=0), now=lambda: moment)
    assert [one.id for one in added] == [job.id for job in jobs]
    assert sent == [10, 5, 2, 3, 5, 2, 3]
