"""Searching: `find` and `count` by the time of adding, by the error, an argument and the worker."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from jobq_core.ids import new_id
from jobq_core.masking import mark_secrets
from jobq_core.records import ErrorRecord, WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import SEARCHED, JobFilter, QueueStorage
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import ERROR, add_job, case, claim_one, job_in, new_job, read, register_worker, settle

S = JobState

MATCHES: list[tuple[Any, Any, bool]] = [
    ({"n": 7}, 7, True),
    ({"n": 7}, 7.0, True),
    ({"n": 7}, "7", False),
    ({"n": "7"}, 7, False),
    ({"n": 1}, True, False),
    ({"n": True}, True, True),
    ({"n": True}, 1, False),
    ({"n": False}, 0, False),
    ({"n": None}, None, True),
    ({}, None, False),
    ({"m": 7}, 7, False),
    ({"n": 2**80}, 2**80, True),
    ({"n": 2**80}, 2**80 + 1, False),
    ({"n": "é ☃ 𝄞"}, "é ☃ 𝄞", True),
    ({"n": "A"}, "a", False),
    ({"n": "per%ent"}, "per%ent", True),
    ({"n": [1, {"a": 2, "b": 3}]}, [1, {"b": 3, "a": 2}], True),
    ({"n": [1, 2]}, [2, 1], False),
    ({"n": [1, True]}, [True, 1], False),
    ({"n": {"a": 1}}, {"a": 1, "b": 2}, False),
    ({"n": {"a": 1, "b": 2}}, {"a": 1}, False),
    ({"n": {"n": 7}}, 7, False),
]
"""Stored arguments, the value that is asked for as 'n', and whether the job matches."""


async def found_by(storage: QueueStorage, limit: int = 100, **criteria: Any) -> list[UUID]:
    """Return the ids that a filter finds, on all pages, and check that `count` agrees."""
    wanted = JobFilter(**criteria)
    ids: list[UUID] = []
    after: UUID | None = None
    while True:
        page = await storage.find(wanted, after=after, limit=limit)
        assert len(page.jobs) <= limit
        ids += [job.id for job in page.jobs]
        if page.cursor is None:
            break
        assert after is None or page.cursor < after
        after = page.cursor
    assert ids == sorted(set(ids), reverse=True)
    assert await storage.count(wanted) == len(ids)
    return ids


async def _add_now(storage: QueueStorage, **options: Any) -> UUID:
    """Add a job whose id is of the storage's time."""
    now = await storage.now()
    offset = (now - now.now(now.tzinfo)).total_seconds()
    return await add_job(storage, id=new_id(offset), **options)


async def _failed(storage: QueueStorage, worker: WorkerInfo, name: str, message: str) -> UUID:
    """Add a job that failed with this error."""
    job = await add_job(storage, queue=worker.queues[0])
    error = ErrorRecord(type=name, message=message)
    await settle(storage, worker, await claim_one(storage, worker), Ending.FAIL, error=error)
    return job


class SearchingContract(ContractBase):
    """`find` with the conditions that need a search, and `count`."""

    # The time of adding

    async def test_find_by_the_time_of_adding(self, storage: QueueStorage, other: QueueStorage) -> None:
        jobs: list[UUID] = []
        for n in range(4):
            jobs.append(await _add_now(storage, queue=("a", "b")[n % 2]))
            await self.advance(storage, 100)
        times = [(await read(storage, job)).created_at for job in jobs]
        assert await found_by(other, since=times[0]) == jobs[::-1]
        assert await found_by(other, since=times[2]) == [jobs[3], jobs[2]]
        assert await found_by(other, since=times[2] + timedelta(microseconds=1)) == [jobs[3]]
        assert await found_by(other, until=times[2]) == [jobs[1], jobs[0]]
        assert await found_by(other, until=times[2] + timedelta(microseconds=1)) == [jobs[2], jobs[1], jobs[0]]
        assert await found_by(other, since=times[1], until=times[3], queue="b") == [jobs[1]]
        assert await found_by(other, since=times[3], until=times[1]) == []
        assert await found_by(other, 1, since=times[1], states={S.PENDING}) == [jobs[3], jobs[2], jobs[1]]

    # The error

    async def test_find_by_the_type_of_the_error(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        jobs = [await _failed(storage, worker, name, "x") for name in ("ValueError", "app.ValueError", "ValueError")]
        await add_job(storage)
        assert await found_by(storage, error_type="ValueError") == [jobs[2], jobs[0]]
        assert await found_by(storage, error_type="app.ValueError") == [jobs[1]]
        assert await found_by(storage, error_type="valueerror") == []

    async def test_find_by_the_message_of_the_error(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        messages = ["no route to db1", "No Route to db2: 100%", "a_b", "aXb", r"C:\new", 'it\'s "so"']
        jobs = [await _failed(storage, worker, "OSError", message) for message in messages]
        await add_job(storage)
        for text, expected in {
            "no route": [1, 0],
            "NO ROUTE TO DB1": [0],
            "db": [1, 0],
            "0%": [1],
            "%": [1],
            "a_b": [2],
            r"c:\N": [4],
            "it's": [5],
            '"so"': [5],
            "nothing like it": [],
        }.items():
            with case(text):
                assert await found_by(storage, error=text) == [jobs[n] for n in expected]
        assert await found_by(storage, error="route", error_type="OSError", states={S.FAILED}) == [jobs[1], jobs[0]]
        assert await found_by(storage, error="route", error_type="ValueError") == []

    async def test_the_error_that_a_summary_shows_is_searched(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        jobs = {state: await job_in(storage, worker, state, queue=state.value) for state in S}
        # A job that goes on has its errors in its attempts.
        retried = await add_job(storage)
        await settle(storage, worker, await claim_one(storage, worker), Ending.RETRY, error=ERROR, when=60.0)
        expired = await add_job(storage, deadline=10.0)
        await self.advance(storage, 11)
        await storage.expire()
        shown = {job.id: job.error for job in (await storage.find(JobFilter())).jobs}
        assert {job for job, error in shown.items() if error is not None} == {jobs[S.FAILED], expired}
        assert await found_by(storage, error_type=ERROR.type) == [jobs[S.FAILED]]
        assert await found_by(storage, error="deadline") == [expired]
        assert shown[retried] is None

    # An argument

    async def test_find_by_an_argument(self, storage: QueueStorage) -> None:
        for n, (stored, asked, matches) in enumerate(MATCHES):
            with case(f"{stored} and {asked!r}"):
                job = await add_job(storage, queue=str(n), arguments=json.dumps(stored).encode())
                assert await found_by(storage, queue=str(n), argument=("n", asked)) == ([job] if matches else [])

    async def test_arguments_are_found_by_any_name(self, storage: QueueStorage) -> None:
        names = ["n", "a.b", "a b", '"', "$", "'", "[0]", "é", "0", ""]
        jobs = {name: await add_job(storage, arguments=json.dumps({name: 1}).encode()) for name in names}
        for name, job in jobs.items():
            with case(name):
                assert await found_by(storage, argument=(name, 1)) == [job]

    async def test_an_argument_that_is_stored_as_a_secret_matches_no_value(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        stored = b'{"pin":"1234","n":1}'
        secret = await add_job(storage, arguments=stored, meta=mark_secrets(b'{"tenant":"7"}', ["pin", "card"]))
        plain = await add_job(storage, arguments=stored, meta=b'{"tenant":"jobq:secrets"}')
        assert await found_by(other, argument=("pin", "1234")) == [plain]
        assert await found_by(other, argument=("n", 1)) == [plain, secret]
        assert await found_by(other, queue="default", states={S.PENDING}, argument=("pin", "1234")) == [plain]

    # The worker

    async def test_find_by_the_worker_that_runs_or_ran_a_job(self, storage: QueueStorage) -> None:
        one, two = await register_worker(storage, queues=("one",)), await register_worker(storage, queues=("two",))
        mine = [await job_in(storage, one, state, queue="one") for state in (S.COMPLETED, S.FAILED, S.BLOCKED)]
        again = await job_in(storage, one, S.FAILED, queue="one")
        await storage.retry([again])
        mine.append(again)
        running = await job_in(storage, one, S.PROCESSING, queue="two")
        theirs = await job_in(storage, two, S.COMPLETED, queue="two")
        await add_job(storage, queue="two")
        assert await found_by(storage, worker=one.id) == [running, *mine[::-1]]
        assert await found_by(storage, worker=one.id, states={S.PROCESSING}) == [running]
        assert await found_by(storage, worker=two.id) == [theirs]
        assert await found_by(storage, worker=new_id()) == []

    # Pages of a search

    async def test_pages_of_a_search_have_no_gaps_and_no_duplicates(self, storage: QueueStorage) -> None:
        jobs = [new_job(queue=("a", "b")[n % 2], arguments=b'{"n":%d}' % (n % 3)) for n in range(24)]
        await storage.add(jobs)
        wanted = [job.id for n, job in enumerate(jobs) if n % 2 == 0 and n % 3 == 1]
        for limit in (1, 2, 3, 4, 7):
            assert await found_by(storage, limit, queue="a", argument=("n", 1)) == wanted[::-1]

    async def test_a_search_among_many_jobs_goes_on_page_by_page(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        first = await add_job(storage, arguments=b'{"n":1}', tags=("t",))
        await storage.add([new_job(queue="big") for _ in range(SEARCHED)])
        last = await add_job(storage, arguments=b'{"n":1}')
        wanted = JobFilter(argument=("n", 1))
        one = await other.find(wanted)
        assert [job.id for job in one.jobs] == [last]
        assert one.cursor is not None
        two = await other.find(wanted, after=one.cursor)
        assert ([job.id for job in two.jobs], two.cursor) == ([first], None)
        assert await other.count(wanted) is None
        # Few jobs have to be read where an index has the other conditions.
        assert await found_by(other, queue="default", argument=("n", 1)) == [last, first]
        assert await found_by(other, tags=("t",), argument=("n", 1)) == [first]

    # count

    async def test_jobs_are_counted_by_each_condition(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        for n, state in enumerate(S):
            for kind in ("a", "b"):
                options = {"kind": kind, "queue": state.value, "tags": ("t", str(n % 3)), "run_id": f"r{n % 2}"}
                await job_in(storage, worker, state, **options)
                if state is S.PENDING:  # a job is brought to its state while no other is PENDING
                    await storage.move([(await storage.find(JobFilter())).jobs[0].id], "elsewhere")
        assert await other.count(JobFilter()) == 16
        for state in S:
            with case(state):
                assert await other.count(JobFilter(states={state})) == 2
                assert await other.count(JobFilter(states={state}, kinds=("a",))) == 1
                assert await other.count(JobFilter(queue=state.value)) == (0 if state is S.PENDING else 2)
        assert await other.count(JobFilter(states={S.FAILED, S.COMPLETED, S.PENDING})) == 6
        assert await other.count(JobFilter(kinds=("a",))) == 8
        assert await other.count(JobFilter(kinds=("a", "b", "c"))) == 16
        assert await other.count(JobFilter(tags=("t", "1"))) == 6
        assert await other.count(JobFilter(run_id="r1")) == 8
        assert await other.count(JobFilter(queue="never")) == 0

    async def test_a_count_ends_at_its_limit(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        await storage.add([new_job() for _ in range(5)])
        for _ in range(5):
            await settle(storage, worker, await claim_one(storage, worker))
        await storage.add([new_job() for _ in range(5)])
        for wanted, jobs in (
            (JobFilter(), 10),
            (JobFilter(queue="default"), 10),
            (JobFilter(states={S.COMPLETED}), 5),
            (JobFilter(argument=("n", 1)), 0),
        ):
            assert await storage.count(wanted, limit=10) == jobs
            assert await storage.count(wanted, limit=jobs) == jobs
            if jobs:
                assert await storage.count(wanted, limit=jobs - 1) is None
