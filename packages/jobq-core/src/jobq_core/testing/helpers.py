"""Helpers that make jobs and workers, and bring a job into any state."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import msgspec

from jobq_core.ids import new_id
from jobq_core.records import ErrorRecord, JobRecord, WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import (
    UNKNOWN_KIND,
    Claim,
    ClaimedJob,
    NewJob,
    QueueStorage,
    SettleAndClaimResult,
    Settlement,
    When,
)

ERROR: Final = ErrorRecord(type="ValueError", message="no such file", traceback="Traceback …\nValueError")
"""An error to settle runs with."""


def new_job(**options: Any) -> NewJob:
    """Return a job to add: a new id, queue 'default', kind 'noop', no arguments, unless options replace them."""
    defaults: dict[str, Any] = {"id": new_id(), "queue": "default", "kind": "noop", "arguments": b"{}"}
    return NewJob(**defaults | options)


def worker_info(**options: Any) -> WorkerInfo:
    """Return a worker to register: queue 'default', kind 'noop', lost after 30 s, unless options replace them."""
    defaults: dict[str, Any] = {
        "id": new_id(),
        "name": "tester",
        "host": "localhost",
        "pid": 1,
        "queues": ("default",),
        "kinds": ("noop",),
        "concurrency": 4,
        "lost_after": 30.0,
    }
    return WorkerInfo(**defaults | options)


RUN_ENDINGS = (Ending.COMPLETE, Ending.FAIL, Ending.RETRY, Ending.ABORT, Ending.HOLD, Ending.RELEASE)
"""The endings of a run that nobody asked to stop, and whose job every worker can take."""


async def add_job(storage: QueueStorage, **options: Any) -> UUID:
    """Add one job, made by `new_job`, and return its id."""
    job = new_job(**options)
    [added] = await storage.add([job])
    assert added.created, f"{job} existed already"
    return added.id


async def register_worker(storage: QueueStorage, **options: Any) -> WorkerInfo:
    """Register a worker, made by `worker_info`, and return it."""
    info = worker_info(**options)
    await storage.register(info)
    return info


async def claim(storage: QueueStorage, worker: WorkerInfo, limit: int = 100, *queues: str) -> list[ClaimedJob]:
    """Claim up to `limit` jobs of these queues (default: the worker's own)."""
    answer = await storage.settle_and_claim(worker.id, (), Claim.of(*(queues or worker.queues), limit=limit))
    assert answer.alive, f"{worker} counts as lost"
    return answer.claimed


async def claim_one(storage: QueueStorage, worker: WorkerInfo, *queues: str) -> ClaimedJob:
    """Claim one job; fails if there is none."""
    claimed = await claim(storage, worker, 1, *queues)
    assert len(claimed) == 1, "there was no job to claim"
    return claimed[0]


async def start_one(storage: QueueStorage, worker: WorkerInfo, *queues: str) -> ClaimedJob:
    """Claim one job and mark its start, as a worker does before the run; fails if there is none."""
    claimed = await claim_one(storage, worker, *queues)
    assert await storage.mark_started(worker.id, [(claimed.id, claimed.lease)]) == [True]
    return claimed


async def settle(
    storage: QueueStorage,
    worker: WorkerInfo,
    claimed: ClaimedJob,
    ending: Ending = Ending.COMPLETE,
    *,
    result: bytes | None = None,
    error: ErrorRecord | None = None,
    when: When | None = None,
    reason: str | None = None,
) -> JobState | None:
    """Settle one run, and return the state that it led to."""
    if ending is Ending.COMPLETE and result is None:
        result = b"null"
    settlement = Settlement(claimed.id, claimed.lease, ending, result, error, when, reason)
    [state] = (await settle_all(storage, worker.id, [settlement])).settled
    return state


async def settle_all(
    storage: QueueStorage, worker: UUID, settlements: Sequence[Settlement], claim: Claim | None = None
) -> SettleAndClaimResult:
    """Settle and claim, and send the settlements that were busy again, as a worker does; busy is empty then."""
    result = await storage.settle_and_claim(worker, settlements, claim)
    settled, busy = list(result.settled), result.busy
    async with asyncio.timeout(20):
        while busy:
            again = await storage.settle_and_claim(worker, [settlements[index] for index in busy])
            for index, state in zip(busy, again.settled, strict=True):
                settled[index] = state
            busy = tuple(busy[index] for index in again.busy)
    return msgspec.structs.replace(result, settled=settled, busy=())


async def read(storage: QueueStorage, job: UUID) -> JobRecord:
    """Return the record of a job; fails if the job does not exist."""
    [record] = await storage.get([job])
    assert record is not None, f"there is no job {job}"
    return record


async def state_of(storage: QueueStorage, job: UUID) -> JobState | None:
    """Return the state of a job; None if the job does not exist."""
    [record] = await storage.get([job])
    return None if record is None else record.state


@contextmanager
def case(name: object) -> Generator[None, None, None]:
    """Add the name of the case to an error, in a test of several cases."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the case {name!s}")
        raise


async def job_in(storage: QueueStorage, worker: WorkerInfo, state: JobState, **options: Any) -> UUID:
    """Add a job and bring it into a state; no other job may be PENDING. SCHEDULED and BLOCKED end in an hour."""
    job = await add_job(storage, **({"run_at": 3600.0} if state is JobState.SCHEDULED else {}) | options)
    if state is JobState.DISABLED:
        await storage.disable([job])
    elif state is JobState.ABORTED:
        await storage.abort([job])
    elif state not in (JobState.PENDING, JobState.SCHEDULED):
        claimed = await claim_one(storage, worker, options.get("queue", "default"))
        assert claimed.id == job, "another job was PENDING in this queue"
        if state is JobState.BLOCKED:
            await settle(storage, worker, claimed, Ending.RELEASE, when=3600.0, reason=UNKNOWN_KIND)
        elif state is JobState.COMPLETED:
            await settle(storage, worker, claimed, result=b'"done"')
        elif state is JobState.FAILED:
            await settle(storage, worker, claimed, Ending.FAIL, error=ERROR)
    assert await state_of(storage, job) is state
    return job
