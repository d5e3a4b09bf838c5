"""Reading: get, get_status, find by each criterion and page by page, counts, and the newest output."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from jobq_core.encoding import fingerprint
from jobq_core.ids import new_id
from jobq_core.records import Progress, WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import JobFilter, JobStatus, ProgressReport, QueueStorage
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import ERROR, add_job, case, claim_one, job_in, new_job, read, settle, state_of

S = JobState

EQUALS: list[tuple[Any, Any, bool]] = [
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
    ({"a": {"x": [{"m": 1, "n": 2}], "y": 0}}, {"a": {"y": 0, "x": [{"n": 2, "m": 1}]}}, True),
    ({"a": [1, 2]}, {"a": [2, 1]}, False),
    ({"a": 1}, {"a": "1"}, False),
    ({"a": None}, {}, False),
    ({"a": "é"}, {"a": "e\u0301"}, False),
]
"""Stored arguments, requested arguments, and whether they are equal."""


async def found(storage: QueueStorage, **criteria: Any) -> list[UUID]:
    """Return the ids that a filter finds, on one page."""
    page = await storage.find(JobFilter(**criteria))
    assert page.cursor is None
    return [record.id for record in page.jobs]


async def paged(storage: QueueStorage, limit: int, **criteria: Any) -> list[list[UUID]]:
    """Return the ids that a filter finds, page by page."""
    pages: list[list[UUID]] = []
    cursor: UUID | None = None
    while not pages or cursor is not None:
        page = await storage.find(JobFilter(**criteria), after=cursor, limit=limit)
        pages.append([record.id for record in page.jobs])
        cursor = page.cursor
    return pages


class ReadingContract(ContractBase):
    """Jobs can be read by id, found by criteria, and counted."""

    # get and get_status

    async def test_get_answers_in_order_with_none_for_unknown_jobs(self, storage: QueueStorage) -> None:
        one, two = await add_job(storage), await add_job(storage)
        records = await storage.get([two, new_id(), one, two])
        assert [record and record.id for record in records] == [two, None, one, two]
        assert await storage.get([]) == []

    async def test_more_than_a_thousand_jobs_can_be_read_at_once(self, storage: QueueStorage) -> None:
        jobs = [new_job() for _ in range(1_200)]
        await storage.add(jobs)
        wanted = [job.id for job in jobs[::-1]]
        assert [record and record.id for record in await storage.get(wanted)] == wanted
        assert [status and status.id for status in await storage.get_status(wanted)] == wanted

    async def test_get_status_answers_in_order_with_none_for_unknown_jobs(self, storage: QueueStorage) -> None:
        one, two = await add_job(storage), await add_job(storage)
        statuses = await storage.get_status([two, new_id(), one, two])
        assert [status and status.id for status in statuses] == [two, None, one, two]
        assert await storage.get_status([]) == []

    async def test_get_status_agrees_with_get(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        for state in JobState:
            with case(state):
                job = await job_in(storage, worker, state, kind="k", queue=state.value)
                record = await read(storage, job)
                assert await other.get_status([job]) == [
                    JobStatus(
                        id=job,
                        kind="k",
                        queue=state.value,
                        state=state,
                        attempt=record.attempt,
                        progress=record.progress,
                        worker=record.worker,
                        result_json=record.result_json,
                        error=record.error,
                    )
                ]

    async def test_get_status_follows_a_run(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage)
        claimed = await claim_one(storage, worker)
        progress = Progress(percent=12.5, message="m", details=[1])
        await storage.progress(worker.id, [ProgressReport(id=job, lease=claimed.lease, progress=progress)])
        [status] = await other.get_status([job])
        assert status is not None
        assert (status.state, status.attempt, status.worker) == (S.PROCESSING, 1, worker.id)
        assert (status.progress, status.result_json, status.error) == (progress, None, None)

    # find

    async def test_find_returns_jobs_newest_first(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        jobs = [await job_in(storage, worker, state) for state in (S.FAILED, S.SCHEDULED, S.COMPLETED, S.PROCESSING)]
        page = await other.find(JobFilter())
        assert [(job.id, job.state) for job in page.jobs] == [
            (job, await state_of(storage, job)) for job in sorted(jobs, reverse=True)
        ]
        assert page.cursor is None
        failed = next(record for record in page.jobs if record.state is S.FAILED)
        assert failed.error is not None
        assert (failed.error.type, failed.error.message) == (ERROR.type, ERROR.message)

    async def test_find_is_in_the_order_of_ids_not_of_adding(self, storage: QueueStorage) -> None:
        ids = [new_id() for _ in range(9)]
        for n in (4, 0, 8, 2, 6):
            await add_job(storage, id=ids[n])
        await storage.add([new_job(id=ids[n]) for n in (7, 1, 5, 3)])
        assert await found(storage) == sorted(ids, reverse=True)

    async def test_find_by_queue(self, storage: QueueStorage) -> None:
        jobs = [await add_job(storage, queue=queue) for queue in ("a", "b", "a")]
        assert await found(storage, queue="a") == [jobs[2], jobs[0]]
        assert await found(storage, queue="c") == []

    async def test_find_by_state(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        states = [state for state in JobState if state is not S.PENDING] + [S.PENDING]
        jobs = {state: await job_in(storage, worker, state) for state in states}
        for state, job in jobs.items():
            assert await found(storage, states={state}) == [job]
        some = {S.PENDING, S.FAILED, S.SCHEDULED}
        assert await found(storage, states=some) == sorted((jobs[state] for state in some), reverse=True)
        assert await found(storage, states=set(JobState)) == await found(storage)

    async def test_find_by_kind(self, storage: QueueStorage) -> None:
        jobs = [await add_job(storage, kind=kind) for kind in ("a", "b", "c", "a")]
        assert await found(storage, kinds=("a",)) == [jobs[3], jobs[0]]
        assert await found(storage, kinds=("a", "b", "never seen")) == [jobs[3], jobs[1], jobs[0]]
        assert await found(storage, kinds=("A",)) == []

    async def test_find_by_all_of_several_tags(self, storage: QueueStorage) -> None:
        tags = [("a", "b"), ("b",), (), ("b", "c", "a"), ("ab",)]
        jobs = [await add_job(storage, tags=given) for given in tags]
        assert await found(storage, tags=("a",)) == [jobs[3], jobs[0]]
        assert await found(storage, tags=("b",)) == [jobs[3], jobs[1], jobs[0]]
        assert await found(storage, tags=("b", "a")) == [jobs[3], jobs[0]]
        assert await found(storage, tags=("a", "d")) == []

    async def test_find_by_run(self, storage: QueueStorage) -> None:
        jobs = [await add_job(storage, run_id=run_id) for run_id in ("r", None, "s", "r")]
        assert await found(storage, run_id="r") == [jobs[3], jobs[0]]
        assert await found(storage, run_id="t") == []

    async def test_find_by_all_criteria_together(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        match = {"queue": "q", "kind": "k", "run_id": "r", "tags": ("t",)}
        job = await job_in(storage, worker, S.FAILED, **match)
        for name, value in {"queue": "p", "kind": "l", "run_id": "s", "tags": ("u",)}.items():
            await job_in(storage, worker, S.FAILED, **match | {name: value})
        await job_in(storage, worker, S.COMPLETED, **match)
        criteria = {"queue": "q", "kinds": ("k",), "run_id": "r", "tags": ("t",), "states": {S.FAILED}}
        assert await found(storage, **criteria) == [job]

    @pytest.mark.parametrize("limit", [1, 2, 3, 4, 6, 12, 13])
    async def test_pages_have_no_gaps_and_no_duplicates(self, storage: QueueStorage, limit: int) -> None:
        jobs = [new_job(queue=("a", "b")[n % 2]) for n in range(24)]
        await storage.add(jobs)
        wanted = sorted((job.id for job in jobs[::2]), reverse=True)
        pages = await paged(storage, limit, queue="a")
        assert [job for page in pages for job in page] == wanted
        # The last page has no cursor: no page is empty, and only the last is short.
        assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)
        assert 0 < len(pages[-1]) <= limit

    async def test_without_a_match_the_page_is_empty(self, storage: QueueStorage) -> None:
        assert await paged(storage, 10) == [[]]

    async def test_jobs_added_or_deleted_meanwhile_do_not_disturb_the_pages(self, storage: QueueStorage) -> None:
        jobs = [new_job() for _ in range(9)]
        await storage.add(jobs)
        first = await storage.find(JobFilter(), limit=3)
        await add_job(storage)
        assert first.cursor is not None
        await storage.delete([first.cursor, jobs[4].id])
        second = await storage.find(JobFilter(), after=first.cursor, limit=3)
        assert [record.id for record in second.jobs] == [jobs[n].id for n in (5, 3, 2)]
        third = await storage.find(JobFilter(), after=second.cursor, limit=3)
        assert [record.id for record in third.jobs] == [jobs[1].id, jobs[0].id]
        assert third.cursor is None

    async def test_find_returns_a_hundred_jobs_by_default(self, storage: QueueStorage) -> None:
        await storage.add([new_job() for _ in range(101)])
        assert [len(page) for page in await paged(storage, 100)] == [100, 1]
        assert len((await storage.find(JobFilter())).jobs) == 100

    # counts

    async def test_counts_follow_each_state(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        states = [state for state in JobState if state is not S.PENDING] + [S.PENDING]
        for n, state in enumerate(states):
            for _ in range(n % 3 + 1):
                await job_in(storage, worker, state, queue=f"q{n % 2}" if state is not S.PENDING else "q9")
        expected = {"q0": dict.fromkeys(S, 0), "q1": dict.fromkeys(S, 0), "q9": dict.fromkeys(S, 0)}
        for n, state in enumerate(states):
            expected[f"q{n % 2}" if state is not S.PENDING else "q9"][state] = n % 3 + 1
        counts = await other.counts()
        assert set(counts) == set(expected)
        for queue, states_of_queue in expected.items():
            assert {state: counts[queue].get(state, 0) for state in S} == states_of_queue
            assert dict(await other.counts(queue)) == {queue: states_of_queue}

    async def test_a_named_queue_is_always_counted_with_all_states(self, storage: QueueStorage) -> None:
        assert await storage.counts() == {}
        assert await storage.counts("empty") == {"empty": dict.fromkeys(S, 0)}

    async def test_every_move_is_seen_in_the_counts(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        async def count() -> dict[JobState, int]:
            return {state: n for state, n in (await storage.counts("default"))["default"].items() if n}

        job = await add_job(storage, run_at=5.0)
        assert await count() == {S.SCHEDULED: 1}
        await self.advance(storage, 6)
        await storage.promote()
        assert await count() == {S.PENDING: 1}
        claimed = await claim_one(storage, worker)
        assert await count() == {S.PROCESSING: 1}
        await settle(storage, worker, claimed, Ending.RETRY)
        assert await count() == {S.PENDING: 1}
        await storage.disable([job])
        assert await count() == {S.DISABLED: 1}
        await storage.enable([job])
        await settle(storage, worker, await claim_one(storage, worker), Ending.FAIL)
        assert await count() == {S.FAILED: 1}
        await storage.retry([job])
        await claim_one(storage, worker)
        await self.advance(storage, worker.lost_after + 1)
        await storage.rescue()
        assert await count() == {S.PENDING: 1}
        await storage.abort([job])
        assert await count() == {S.ABORTED: 1}
        await storage.delete([job])
        assert await count() == {}

    # output_for

    async def test_the_output_of_the_newest_completed_job_is_found(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        print_ = bytes(range(16))
        ids = sorted(new_id() for _ in range(3))
        # They complete in another order than that of their ids.
        for n in (1, 2, 0):
            await add_job(storage, id=ids[n], kind="k", fingerprint=print_)
            await settle(storage, worker, await claim_one(storage, worker), result=b"%d" % n)
        status = await other.output_for("default", "k", print_)
        assert status is not None
        assert (status.id, status.state, status.result_json) == (ids[2], S.COMPLETED, b"2")
        assert [status] == await storage.get_status([ids[2]])

    async def test_only_a_completed_job_has_an_output(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        for state in JobState:
            with case(state):
                job = await job_in(storage, worker, state, queue=state.value, fingerprint=bytes(16))
                output = await storage.output_for(state.value, "noop", bytes(16))
                assert (output and output.id) == (job if state is S.COMPLETED else None)

    async def test_a_deleted_job_has_no_output(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await job_in(storage, worker, S.COMPLETED, fingerprint=bytes(16))
        assert await storage.output_for("default", "noop", bytes(16)) is not None
        await storage.delete([job])
        assert await storage.output_for("default", "noop", bytes(16)) is None

    async def test_an_output_belongs_to_its_queue_kind_and_fingerprint(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        assert await storage.output_for("default", "noop", bytes(16)) is None
        await job_in(storage, worker, S.COMPLETED, fingerprint=bytes(16))
        await job_in(storage, worker, S.COMPLETED)
        assert await storage.output_for("default", "noop", bytes(16)) is not None
        assert await storage.output_for("another", "noop", bytes(16)) is None
        assert await storage.output_for("default", "other", bytes(16)) is None
        assert await storage.output_for("default", "noop", bytes([1] * 16)) is None

    async def test_outputs_are_found_by_equal_arguments_whatever_the_order_of_their_keys(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        for stored, asked, equal in EQUALS:
            with case(stored):
                arguments = json.dumps(stored).encode()
                print_ = fingerprint("noop", arguments)
                job = await job_in(storage, worker, S.COMPLETED, arguments=arguments, fingerprint=print_)
                status = await storage.output_for("default", "noop", fingerprint("noop", json.dumps(asked).encode()))
                assert (status and status.id) == (job if equal else None)
