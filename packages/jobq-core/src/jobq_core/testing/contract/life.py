"""Opening, closing, cancelling, and the storage's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from jobq_core.errors import ClosedError, ConfigurationError
from jobq_core.records import Progress, WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import (
    FINISHED_TOPIC,
    Claim,
    ClaimedJob,
    JobFilter,
    ProgressReport,
    QueueOptions,
    QueueStorage,
    Settlement,
)
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.contract.operations import new_entry, new_operation
from jobq_core.testing.contract.requests import new_request
from jobq_core.testing.helpers import add_job, case, claim, new_job, settle, state_of, worker_info

CALLS: dict[str, Callable[[QueueStorage], Any]] = {
    "now": lambda s: s.now(),
    "add": lambda s: s.add([new_job()]),
    "settle_and_claim": lambda s: s.settle_and_claim(
        uuid4(), [Settlement(uuid4(), 1, Ending.COMPLETE)], Claim.of("default", limit=1)
    ),
    "mark_started": lambda s: s.mark_started(uuid4(), [(uuid4(), 1)]),
    "check_leases": lambda s: s.check_leases(uuid4(), [(uuid4(), 1)]),
    "recover_claims": lambda s: s.recover_claims(uuid4(), [1]),
    "progress": lambda s: s.progress(uuid4(), [ProgressReport(id=uuid4(), lease=1, progress=Progress())]),
    "abort": lambda s: s.abort([uuid4()]),
    "abort_run": lambda s: s.abort_run("run"),
    "retry": lambda s: s.retry([uuid4()]),
    "disable": lambda s: s.disable([uuid4()]),
    "enable": lambda s: s.enable([uuid4()]),
    "delete": lambda s: s.delete([uuid4()]),
    "clear": lambda s: s.clear("default"),
    "get": lambda s: s.get([uuid4()]),
    "find": lambda s: s.find(JobFilter()),
    "counts": lambda s: s.counts(),
    "get_status": lambda s: s.get_status([uuid4()]),
    "output_for": lambda s: s.output_for("default", "noop", bytes(16)),
    "register": lambda s: s.register(worker_info()),
    "deregister": lambda s: s.deregister(uuid4()),
    "workers": lambda s: s.workers(),
    "lead": lambda s: s.lead(uuid4(), 10.0),
    "resign": lambda s: s.resign(uuid4()),
    "promote": lambda s: s.promote(),
    "rescue": lambda s: s.rescue(),
    "set_queue": lambda s: s.set_queue("default", QueueOptions(paused=True)),
    "queues": lambda s: s.queues(),
    "statistics": lambda s: s.statistics(),
    "expire": lambda s: s.expire(),
    "admit": lambda s: s.admit([uuid4()]),
    "resolve": lambda s: s.resolve(),
    "prune": lambda s: s.prune(),
    "run_now": lambda s: s.run_now([uuid4()]),
    "reschedule": lambda s: s.reschedule([uuid4()], datetime.now(UTC)),
    "move": lambda s: s.move([uuid4()], "else"),
    "set_priority": lambda s: s.set_priority([uuid4()], 7),
    "count": lambda s: s.count(JobFilter()),
    "depths": lambda s: s.depths(),
    "depth_history": lambda s: s.depth_history(),
    "jobs_ahead": lambda s: s.jobs_ahead(uuid4()),
    "overdue": lambda s: s.overdue(60.0),
    "sample_depths": lambda s: s.sample_depths(),
    "add_operation": lambda s: s.add_operation(new_operation()),
    "operations": lambda s: s.operations(),
    "save_operation": lambda s: s.save_operation(new_operation(), seen=None),
    "cancel_operation": lambda s: s.cancel_operation(uuid4()),
    "record_audit": lambda s: s.record_audit([new_entry()]),
    "audit": lambda s: s.audit(),
    "ask_worker": lambda s: s.ask_worker(new_request(uuid4())),
    "worker_requests": lambda s: s.worker_requests(uuid4()),
    "answer_request": lambda s: s.answer_request(uuid4(), "answer"),
    "get_requests": lambda s: s.get_requests([uuid4()]),
}
"""Every operation on the data."""


class LifeContract(ContractBase):
    """A storage opens, closes, survives cancelled callers, and has its own clock."""

    async def test_a_storage_can_be_closed_twice(self, storage: QueueStorage) -> None:
        await storage.close()
        await storage.close()

    async def test_every_call_works_when_open_and_raises_closed_error_when_closed(self, storage: QueueStorage) -> None:
        for name, call in CALLS.items():
            with case(name):
                await call(storage)
        await storage.close()
        for name, call in CALLS.items():
            with case(name), pytest.raises(ClosedError):
                await call(storage)

    async def test_a_closed_storage_gives_no_subscription(self, storage: QueueStorage) -> None:
        await storage.close()
        with pytest.raises(ClosedError):
            async with storage.subscribe([FINISHED_TOPIC]):
                pass

    async def test_a_closed_storage_gives_no_heartbeat(self, storage: QueueStorage) -> None:
        await storage.close()
        with pytest.raises(ClosedError):
            storage.heartbeat(worker_info())

    async def test_jobs_outlive_the_object_that_added_them(self, storage: QueueStorage, other: QueueStorage) -> None:
        job = await add_job(storage)
        await storage.close()
        assert await state_of(other, job) is JobState.PENDING

    async def test_closing_finishes_the_operations_under_way(self, storage: QueueStorage, other: QueueStorage) -> None:
        jobs = [new_job() for _ in range(20)]
        adds = [asyncio.ensure_future(storage.add([job])) for job in jobs]
        await asyncio.sleep(0)
        await storage.close()
        answers = await asyncio.gather(*adds, return_exceptions=True)
        there = await other.get([job.id for job in jobs])
        for answer, record in zip(answers, there, strict=True):
            if record is None:
                assert isinstance(answer, ClosedError)
            else:
                assert isinstance(answer, list)

    async def test_a_migrated_storage_has_nothing_to_migrate(self, storage: QueueStorage, other: QueueStorage) -> None:
        assert list(await asyncio.gather(storage.migrate(), other.migrate())) == [[], []]
        assert await storage.migrate("pre") == []
        assert await storage.migrate("post") == []

    async def test_migrate_works_on_a_storage_that_is_not_open(self, storage: QueueStorage) -> None:
        await storage.close()
        assert await storage.migrate() == []

    async def test_the_migrations_can_be_read(self, storage: QueueStorage) -> None:
        assert isinstance(storage.migration_sql(), str)

    async def test_the_url_names_a_scheme_of_the_storage(self, storage: QueueStorage) -> None:
        assert storage.url.partition(":")[0] in type(storage).schemes

    async def test_a_url_of_another_scheme_is_refused(self, storage: QueueStorage) -> None:
        with pytest.raises(ConfigurationError):
            type(storage).from_url("carrier-pigeon://loft/7")

    async def test_the_clock_is_aware_and_shared(self, storage: QueueStorage, other: QueueStorage) -> None:
        now = await storage.now()
        assert now.tzinfo is not None
        assert abs(await other.now() - now) < timedelta(seconds=10)
        await self.advance(storage, 3600)
        for each in (storage, other):
            assert timedelta(seconds=3600) <= await each.now() - now < timedelta(seconds=3660)

    async def test_now_is_in_utc(self, storage: QueueStorage) -> None:
        # A storage whose clock is an hour wrong would pass all other tests: this compares it with the machine's.
        assert abs(await storage.now() - datetime.now(UTC)) < timedelta(minutes=5)

    async def test_a_cancelled_add_stores_all_or_nothing_and_leaves_the_storage_usable(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        batches = [[new_job() for _ in range(3)] for _ in range(30)]
        for turns, batch in enumerate(batches):
            await _cancelled(storage.add(batch), turns)
            await add_job(storage)
        # A cancelled operation may still take effect, as a whole.
        await storage.close()
        for batch in batches:
            assert len({record is None for record in await other.get([job.id for job in batch])}) == 1

    async def test_a_cancelled_settle_and_claim_loses_no_job(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        jobs = {await add_job(storage) for _ in range(40)}
        for turns in range(20):
            await _cancelled(storage.settle_and_claim(worker.id, (), Claim.of("default", limit=2)), turns)
        await storage.close()
        # A server may notice late that its client is gone: the cancelled claim takes effect, or is undone, meanwhile.
        held: list[ClaimedJob] = []
        rest: list[ClaimedJob] = []
        while len(held) + len(rest) < len(jobs):
            held += await other.recover_claims(worker.id, [claimed.lease for claimed in (*held, *rest)])
            rest += await claim(other, worker)
        assert {job.id for job in held} | {job.id for job in rest} == jobs
        assert len(held) + len(rest) == len(jobs)
        for claimed in held:
            assert await settle(other, worker, claimed) is JobState.COMPLETED


async def _cancelled(operation: Any, turns: int) -> None:
    """Cancel an operation after a number of turns of the event loop, and wait until it has ended."""
    task = asyncio.ensure_future(operation)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
