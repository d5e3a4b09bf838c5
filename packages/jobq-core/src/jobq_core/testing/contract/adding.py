"""Adding jobs: what is stored, what happens when it is repeated, and when the job may run."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from msgspec.structs import replace

from jobq_core.errors import ConfigurationError
from jobq_core.ids import new_id
from jobq_core.job import MAX_ATTEMPTS
from jobq_core.records import Progress, WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import Added, Claim, JobFilter, QueueStorage, Settlement
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import (
    add_job,
    case,
    claim_one,
    job_in,
    new_job,
    read,
    register_worker,
    settle,
    state_of,
)

WORDS = "Zürich 東京 🦀 İ ﷽ a\u0301 'quote' \"double\" back\\slash %s %(name)s $1 ? :name {brace} \t\n\r\u2028"
"""Text that wrong quoting, templates or normalization would change."""

DOCUMENTS: dict[str, bytes] = {
    "empty": b"{}",
    "falsy": b'{"a":0,"b":false,"c":"","d":null,"e":[],"f":{},"g":0.0,"h":-0.0}',
    "unicode": json.dumps({"text": WORDS, WORDS: 1}, ensure_ascii=False).encode(),
    "escapes": json.dumps({"text": WORDS}).encode(),
    "nested lists": b'{"rows":' + b"[" * 60 + b"1" + b"]" * 60 + b"}",
    "key order and spaces": b'{ "b": 1, "a" : [ 2,3 ],\n "c": {"z": 1, "y": 2} }',
    "numbers": b'{"big":9223372036854775807,"small":-9223372036854775808,"e":1e3,"f":2.50,"g":0.1,"h":1.79e308}',
    "big text": json.dumps({"text": "ünïcode €" * 15_000}, ensure_ascii=False).encode(),
}
"""JSON that must be returned byte for byte."""

RESULTS: dict[str, bytes] = {
    "zero": b"0",
    "false": b"false",
    "empty text": b'""',
    "null": b"null",
    "empty list": b"[]",
    "empty object": b"{}",
    "zero point zero": b"0.0",
    "a megabyte": b'"' + b"x" * (1024 * 1024 - 2) + b'"',
} | DOCUMENTS


class AddingContract(ContractBase):
    """A job is stored once, as it was given."""

    async def test_an_added_job_is_pending_and_answered_as_created(self, storage: QueueStorage) -> None:
        job = new_job()
        assert await storage.add([job]) == [Added(job.id, True)]
        assert await state_of(storage, job.id) is JobState.PENDING

    async def test_every_field_is_stored(self, storage: QueueStorage, other: QueueStorage) -> None:
        job = new_job(
            queue="mail",
            kind="send_receipt",
            arguments=b'{"order_id":7}',
            priority=-100,
            run_at=datetime(2099, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
            deadline=datetime(2099, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
            timeout=0.125,
            max_attempts=MAX_ATTEMPTS,
            backoff=b'{"base":1.0}',
            unique_key="order 7",
            run_id="nightly",
            tags=("b", "a", "c"),
            fingerprint=bytes(range(16)),
        )
        before = await storage.now()
        await storage.add([job])
        record = await read(other, job.id)
        assert before <= record.created_at <= await storage.now()
        assert record.created_at.tzinfo is not None
        assert (record.id, record.queue, record.kind, record.state) == (
            job.id,
            "mail",
            "send_receipt",
            JobState.SCHEDULED,
        )
        assert (record.arguments_json, record.arguments) == (b'{"order_id":7}', {"order_id": 7})
        assert (record.priority, record.timeout, record.max_attempts) == (-100, 0.125, MAX_ATTEMPTS)
        assert (record.run_at, record.deadline) == (job.run_at, job.deadline)
        assert (record.unique_key, record.run_id, record.tags) == ("order 7", "nightly", ("b", "a", "c"))

    async def test_a_thread_stores_what_the_event_loop_stores_or_leaves_it_to_that(self, storage: QueueStorage) -> None:
        alone = {"arguments": b'{"a":"\xe2\x82\xac"}', "priority": 7, "run_id": "night", "max_attempts": 2}
        later = alone | {"run_at": datetime(2099, 1, 2, tzinfo=UTC), "tags": ("a", "b"), "timeout": 0.5}
        first = [new_job(**alone), new_job(**later)]
        await storage.add(first)
        producer = storage.sync_producer()
        for batch in ([new_job(**alone)], [new_job(**alone), new_job(**later)], [new_job(unique_key="a")]):
            answers = None if producer is None else await asyncio.to_thread(producer.add, batch, timeout=20)
            assert answers in (None, [Added(job.id, True) for job in batch])
            assert await storage.add(batch) == [Added(job.id, answers is None) for job in batch]
            for job in batch if batch[0].unique_key is None else ():
                twin = await read(storage, first[job.run_at is not None].id)
                found = await read(storage, job.id)
                assert replace(found, id=twin.id, created_at=twin.created_at, since=twin.since) == twin
        if producer is not None:
            producer.close()

    async def test_a_new_job_has_no_past(self, storage: QueueStorage) -> None:
        record = await read(storage, await add_job(storage))
        assert (record.priority, record.attempt, record.max_attempts, record.tags) == (0, 0, 10, ())
        assert (record.run_at, record.deadline, record.timeout) == (None, None, None)
        assert (record.run_id, record.unique_key, record.stop_request) == (None, None, None)
        assert (record.worker, record.lease, record.started_at, record.finished_at) == (None, None, None, None)
        assert (record.result_json, record.result, record.error, record.attempts) == (None, None, None, ())
        assert record.progress == Progress()

    async def test_arguments_come_back_byte_for_byte(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        for name, arguments in DOCUMENTS.items():
            with case(name):
                job = await add_job(storage, arguments=arguments)
                assert (await read(other, job)).arguments_json == arguments
                assert (await claim_one(storage, worker)).arguments == arguments

    async def test_results_come_back_byte_for_byte(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        for name, result in RESULTS.items():
            with case(name):
                job = await add_job(storage)
                await settle(storage, worker, await claim_one(storage, worker), result=result)
                assert (await read(other, job)).result_json == result
                [status] = await other.get_status([job])
                assert status is not None
                assert status.result_json == result

    async def test_names_may_be_any_text(self, storage: QueueStorage, other: QueueStorage) -> None:
        words = (WORDS + "x" * 255)[:255]
        worker = await register_worker(storage, queues=(words,), kinds=(words,), name=words)
        job = await add_job(storage, queue=words, kind=words, unique_key=words, run_id=words, tags=(words, "plain"))
        record = await read(other, job)
        assert {record.queue, record.kind, record.unique_key, record.run_id, record.tags[0]} == {words}
        assert (await other.add([new_job(queue=words, unique_key=words)])) == [Added(job, False)]
        page = await other.find(JobFilter(queue=words, kinds=(words,), tags=(words,), run_id=words))
        assert [found.id for found in page.jobs] == [record.id]
        assert (await other.counts(words))[words][JobState.PENDING] == 1
        assert (await claim_one(storage, worker)).id == job
        assert [change.asked for change in await other.abort_run(words)] == [True]
        assert (await other.workers())[0].info == worker

    async def test_an_empty_batch_adds_nothing(self, storage: QueueStorage) -> None:
        assert await storage.add([]) == []
        assert (await storage.find(JobFilter())).jobs == []

    async def test_a_batch_may_be_large_and_is_answered_in_its_order(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        jobs = [new_job(arguments=b'{"n":%d}' % n) for n in range(2_500)]
        jobs.reverse()
        assert await storage.add(jobs) == [Added(job.id, True) for job in jobs]
        result = await storage.settle_and_claim(worker.id, (), Claim.of("default", limit=2_500))
        assert [job.arguments for job in result.claimed] == [job.arguments for job in jobs]

    # Adding again

    async def test_adding_again_leaves_the_job_as_it_is_in_any_state(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        for state in JobState:
            with case(state):
                job = await job_in(storage, worker, state, queue=state.value, unique_key="k")
                before = await read(storage, job)
                again = new_job(
                    id=job, arguments=b'{"n":1}', priority=9, queue="elsewhere", run_at=60.0, unique_key="k"
                )
                assert await other.add([again]) == [Added(job, False)]
                assert await read(storage, job) == before
        assert (await storage.counts("elsewhere"))["elsewhere"] == dict.fromkeys(JobState, 0)

    async def test_the_same_id_twice_in_a_batch_is_one_job(self, storage: QueueStorage) -> None:
        job, between = new_job(), new_job()
        assert await storage.add([job, between, job]) == [
            Added(job.id, True),
            Added(between.id, True),
            Added(job.id, False),
        ]
        assert (await storage.counts("default"))["default"][JobState.PENDING] == 2

    async def test_the_same_job_added_by_many_at_once_is_created_by_one(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        for _ in range(5):
            job = new_job()
            adds = await asyncio.gather(*((storage, other)[n % 2].add([job]) for n in range(20)))
            assert sorted(added.created for [added] in adds) == [False] * 19 + [True]
            assert {added.id for [added] in adds} == {job.id}

    async def test_a_batch_with_jobs_that_exist_adds_the_others(self, storage: QueueStorage) -> None:
        jobs = [new_job() for _ in range(4)]
        await storage.add([jobs[1], jobs[3]])
        assert [added.created for added in await storage.add(jobs)] == [True, False, True, False]
        assert None not in await storage.get([job.id for job in jobs])

    # When it may run

    async def test_run_at_and_deadline_are_kept_to_the_microsecond(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        for moment in (
            datetime(2099, 1, 1, tzinfo=UTC),
            datetime(2099, 6, 30, 23, 59, 59, 999999, tzinfo=UTC),
            datetime(2088, 2, 29, 12, 0, 0, 1, tzinfo=timezone(timedelta(hours=5, minutes=45))),
            datetime(2077, 3, 4, 5, 6, 7, 123457, tzinfo=timezone(timedelta(hours=-9, minutes=-30))),
        ):
            with case(moment):
                record = await read(other, await add_job(storage, run_at=moment, deadline=moment))
                assert (record.state, record.run_at, record.deadline) == (JobState.SCHEDULED, moment, moment)
                assert record.reason == "delayed"

    async def test_a_delay_counts_from_the_storages_now(self, storage: QueueStorage) -> None:
        before = await storage.now()
        job = await add_job(storage, run_at=90.5, deadline=600.0)
        after = await storage.now()
        record = await read(storage, job)
        assert record.state is JobState.SCHEDULED
        assert record.run_at is not None
        assert record.deadline is not None
        assert before <= record.run_at - timedelta(seconds=90.5) <= after
        assert before <= record.deadline - timedelta(seconds=600) <= after

    async def test_a_time_that_does_not_lie_ahead_does_not_wait(self, storage: QueueStorage) -> None:
        for run_at in (0.0, datetime(2001, 2, 3, 4, 5, 6, 7, tzinfo=UTC)):
            assert await state_of(storage, await add_job(storage, run_at=run_at)) is JobState.PENDING

    async def test_the_storages_clock_decides_whether_a_time_lies_ahead(self, storage: QueueStorage) -> None:
        moment = await storage.now() + timedelta(hours=1)
        assert await state_of(storage, await add_job(storage, run_at=moment)) is JobState.SCHEDULED
        await self.advance(storage, 3601)
        assert await state_of(storage, await add_job(storage, run_at=moment)) is JobState.PENDING

    async def test_the_time_of_a_waiting_job_is_never_overwritten(self, storage: QueueStorage) -> None:
        job = await add_job(storage, run_at=7200.0)
        moment = (await read(storage, job)).run_at
        await storage.add([new_job(id=job, run_at=1.0)])
        await storage.promote()
        await storage.disable([job])
        assert (await read(storage, job)).run_at == moment
        await storage.enable([job])
        assert (await read(storage, job)).run_at == moment

    async def test_a_connection_that_cannot_be_used_is_refused_and_adds_nothing(self, storage: QueueStorage) -> None:
        with pytest.raises(ConfigurationError):
            await storage.add([new_job()], connection=object())
        for operation in (storage.get, storage.abort, storage.retry):
            with pytest.raises(ConfigurationError):
                await operation([new_id()], connection=object())
        with pytest.raises(ConfigurationError):
            await storage.complete(Settlement(new_id(), 1, Ending.COMPLETE), connection=object())
        assert (await storage.find(JobFilter())).jobs == []

    async def test_two_queues_do_not_see_each_others_jobs(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        here, there = await add_job(storage), await add_job(storage, queue="there", id=new_id())
        assert [job.id for job in (await storage.find(JobFilter(queue="there"))).jobs] == [there]
        assert (await storage.counts("default"))["default"][JobState.PENDING] == 1
        assert (await claim_one(storage, worker, "default")).id == here
        assert (await storage.settle_and_claim(worker.id, (), Claim.of("default", limit=10))).claimed == []
        assert await storage.clear("default") == 1
        assert await state_of(storage, there) is JobState.PENDING
