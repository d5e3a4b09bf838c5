"""A storage in memory with jobs of every state, and with the other things that the HTTP API shows."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import attrs

from jobq_core import ErrorRecord, JobState
from jobq_core.ids import new_id
from jobq_core.memory import MemoryQueueStorage
from jobq_core.operations import start
from jobq_core.records import Progress, WorkerInfo, WorkerStats
from jobq_core.states import Ending
from jobq_core.storage import (
    Action,
    AuditEntry,
    Claim,
    JobFilter,
    NewJob,
    ProgressReport,
    QueueOptions,
    Settlement,
    WorkerAction,
    WorkerRequest,
)

QUEUE: Final = "mail"
KIND: Final = "send"
ERROR: Final = ErrorRecord(type="shop.NoAddressError", message="the address is missing", traceback="Traceback …")
SETTLED: Final[dict[JobState, dict[str, Any]]] = {
    JobState.COMPLETED: {"ending": Ending.COMPLETE, "result": b'{"sent":true,"n":9007199254740993}'},
    JobState.FAILED: {"ending": Ending.FAIL, "error": ERROR},
    JobState.ABORTED: {"ending": Ending.ABORT, "error": ERROR},
    JobState.BLOCKED: {"ending": Ending.SUSPEND, "reason": "unknown kind"},
    JobState.SCHEDULED: {"ending": Ending.RETRY, "error": ERROR, "when": 3_600.0},
    JobState.DISABLED: {"ending": Ending.HOLD},
    JobState.PENDING: {"ending": Ending.RETRY, "error": ERROR},
}
"""The settlement of a run that leads to each state; without one, a job stays PROCESSING."""


@attrs.frozen
class Staged:
    """The ids of what is in the storage. jobs: the states take turns."""

    jobs: list[UUID]
    worker: UUID
    operation: UUID
    request: UUID


async def stage(storage: MemoryQueueStorage, jobs: int) -> Staged:
    """Put jobs of every state, a worker, a paused queue, an operation and a request into an open storage."""
    worker = WorkerInfo(
        id=new_id(), name="till", host="web1", pid=7, queues=(QUEUE,), kinds=(KIND,), concurrency=10, lost_after=3_600.0
    )
    await storage.register(worker)
    storage.heartbeat(worker).beat(WorkerStats(running=1, completed=7, memory=180_000_000))
    ids = await _run_jobs(storage, worker.id, jobs)
    await storage.set_queue(QUEUE, QueueOptions(paused=True, actor="kai"))
    await storage.sample_depths()
    now = datetime.now(UTC)
    await storage.record_audit([AuditEntry(id=new_id(), at=now, actor="kai", action="pause", target=QUEUE)])
    operation = await start(storage, Action.RETRY, JobFilter(queue="none"), actor="kai")
    asked = WorkerRequest(id=new_id(), worker=worker.id, action=WorkerAction.STACK, job=None, actor="kai", asked_at=now)
    assert await storage.ask_worker(asked)
    return Staged(ids, worker.id, operation.id, asked.id)


async def _run_jobs(storage: MemoryQueueStorage, worker: UUID, count: int) -> list[UUID]:
    added = [
        NewJob(id=new_id(), queue=QUEUE, kind=KIND, arguments=b'{"to":[1,null]}', tags=("monthly",), run_id="r1")
        for _ in range(count)
    ]
    await storage.add(added)
    claimed = (await storage.settle_and_claim(worker, (), Claim.of(QUEUE, limit=count))).claimed
    progress = Progress(percent=40, message="row 4", details={"row": 4})
    await storage.progress(worker, [ProgressReport(id=job.id, lease=job.lease, progress=progress) for job in claimed])
    states = dict(zip((job.id for job in claimed), itertools.cycle(JobState), strict=False))
    ended = [job for job in claimed if states[job.id] in SETTLED]
    settlements = [Settlement(job.id, job.lease, **SETTLED[states[job.id]]) for job in ended]
    await storage.settle_and_claim(worker, settlements)
    statuses = await storage.get_status(list(states))
    assert [status and status.state for status in statuses] == list(states.values())
    return list(states)
