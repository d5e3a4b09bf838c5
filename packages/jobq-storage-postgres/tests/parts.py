"""Everything that each part does with a storage, in a queue of its own, so that it can be done again and again."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from unittest import mock

import psycopg

from jobq_core.ids import new_id
from jobq_core.operations import start
from jobq_core.records import Progress, WorkerStats
from jobq_core.states import Ending, JobState
from jobq_core.storage import (
    UNKNOWN_KIND,
    Action,
    AuditEntry,
    Claim,
    JobFilter,
    LogPart,
    ProgressReport,
    QueueOptions,
    Retention,
    Settlement,
    WorkerAction,
    WorkerRequest,
)
from jobq_core.testing import ERROR, add_job, claim, job_in, new_job, register_worker, settle, worker_info
from jobq_storage_postgres import PostgresQueueStorage, adding

Act = Callable[[PostgresQueueStorage, PostgresQueueStorage], Awaitable[None]]


async def produce(app: PostgresQueueStorage, owner: PostgresQueueStorage) -> None:
    """Add in every way and look at what was added."""
    queue = uuid.uuid4().hex
    lone = await add_job(app, queue=queue)
    assert (await app.add([new_job(id=lone, queue=queue)]))[0].created is False
    many = [new_job(queue=queue, run_at=when, fingerprint=b"f" * 16, tags=("t",)) for when in (None, 60.0)]
    assert all(added.created for added in await app.add(many))
    keyed = new_job(queue=queue, unique_key="k", priority=9)
    assert [a.created for a in await app.add([keyed, new_job(queue=queue, unique_key="k")])] == [True, False]
    worker = await register_worker(owner, queues=(queue,))
    (claimed,) = await claim(owner, worker, 1)
    assert claimed.id == keyed.id
    await settle(owner, worker, claimed)
    assert (await app.add([keyed]))[0].created is False  # it has come and gone; the key is free again
    assert (await app.add([new_job(queue=queue, unique_key="k")]))[0].created is True
    assert (await app.get_status([keyed.id]))[0] is not None
    assert (await app.get([keyed.id]))[0] is not None
    assert await app.output_for(queue, "noop", b"f" * 16) is None
    assert await app.read_logs(lone) == []
    with mock.patch.object(adding, "BULK", 2):
        await app.add([new_job(queue=queue), new_job(queue=queue)])
    async with await psycopg.AsyncConnection.connect(**app._settings.address.conninfo) as connection:
        await app.add([new_job(queue=queue)], connection=connection)


async def work(app: PostgresQueueStorage, owner: PostgresQueueStorage) -> None:
    """Run jobs to each end and do the maintenance."""
    queue = uuid.uuid4().hex
    await app.set_queue(queue, QueueOptions(retention=Retention(completed=0, failed=0, aborted=0)), "worker")
    blocked = await register_worker(owner, queues=(queue,))
    await job_in(owner, blocked, JobState.BLOCKED, queue=queue)
    await owner.deregister(blocked.id)
    worker = await register_worker(app, queues=(queue,))
    assert [w.info.id for w in await owner.workers()].count(worker.id) == 1
    await owner.add([new_job(queue=queue, unique_key=str(n), follow_up=b"{}") for n in range(6)])
    known = Claim.of(queue, limit=10, kinds=(("noop", "v"),))
    claimed = (await app.settle_and_claim(worker.id, (), known)).claimed
    assert len(claimed) == 7
    first = claimed[0]
    assert [hold.held for hold in await app.check_leases(worker.id, [(first.id, first.lease)])] == [True]
    assert len(await app.recover_claims(worker.id, [])) == 7
    report = ProgressReport(id=first.id, lease=first.lease, progress=Progress(percent=50))
    assert await app.progress(worker.id, [report]) == [True]
    await app.write_logs([LogPart(job=first.id, lease=first.lease, attempt=1, part=0, lines=())])
    endings = (
        Ending.COMPLETE,
        Ending.COMPLETE,
        Ending.FAIL,
        Ending.RETRY,
        Ending.RELEASE,
        Ending.DISABLE,
        Ending.ABORT,
    )
    settlements = [
        Settlement(job.id, job.lease, ending, error=None if ending is Ending.COMPLETE else ERROR, when=None)
        for job, ending in zip(claimed, endings, strict=True)
    ]
    assert None not in (await app.settle_and_claim(worker.id, settlements)).settled
    assert None not in (await app.settle_and_claim(worker.id, settlements)).settled
    assert (await app.settle_and_claim(worker.id)).alive
    await owner.add([new_job(queue=queue)])
    (own,) = (await app.settle_and_claim(worker.id, (), known)).claimed[:1]
    async with await psycopg.AsyncConnection.connect(**app._settings.address.conninfo) as connection:
        await app.complete(Settlement(own.id, own.lease, Ending.COMPLETE), connection=connection)
    late = claimed[0]
    assert (await app.settle_and_claim(worker.id, [Settlement(late.id, 0, Ending.COMPLETE)])).settled == [None]
    heartbeat = app.heartbeat(worker)
    try:
        assert heartbeat.beat(WorkerStats())
    finally:
        heartbeat.close()
    await app.lead(worker.id, 60)
    await app.resign(worker.id)
    await owner.add([new_job(queue=queue, run_at=datetime.now(UTC).replace(microsecond=0))])
    waiting = new_job(queue=queue, run_at=0.001)
    await owner.add([waiting])
    while (await app.promote()).promoted:
        pass
    lost = await register_worker(owner, queues=(queue,), lost_after=0.001)
    await owner.settle_and_claim(worker.id, (), Claim.of(queue, limit=1))
    await owner.settle_and_claim(lost.id, (), Claim.of(queue, limit=1))
    await app.rescue()
    await app._engine.watermarks.advance()
    await app._engine.watermarks._note_skipped({(queue, 0): 0}, 1)
    await app.rescue()
    await app.expire()
    await app.admit([waiting.id])
    await app.resolve(follow=lambda ended: [new_job(queue=queue, follow_up=b"{}")])
    failed = await job_in(owner, worker, JobState.FAILED, queue=f"{queue} 2", unique_key="k")
    bulk = await start(owner, Action.RETRY, JobFilter(queue=f"{queue} 2"), actor="kai")
    # What `operations.work` does.
    assert [job.id for job in (await app.find(bulk.filter, after=bulk.before)).jobs] == [failed]
    assert [change.changed for change in await app.retry([failed])] == [True]
    assert await app.save_operation(bulk, seen=None)
    assert len(await app.operations([bulk.id])) == 1
    assert bulk.id in [each.id for each in await app.operations(running=True)]
    request = WorkerRequest(
        id=new_id(), worker=worker.id, action=WorkerAction.DRAIN, job=None, actor="kai", asked_at=await owner.now()
    )
    assert await owner.ask_worker(request)
    assert len(await app.worker_requests(worker.id)) == 1
    assert await app.answer_request(request.id, "yes")
    await app.prune()
    await app.sample_depths()
    await app._maintain_partitions()
    await app.statistics()
    await app.queues()
    assert await app.oldest_transaction() is not None
    await app.register(worker_info(id=worker.id, queues=(queue,), kinds=("noop", UNKNOWN_KIND)))
    await app.deregister(worker.id)
    await app.rescue()


async def read(app: PostgresQueueStorage, owner: PostgresQueueStorage) -> None:
    """Look at everything."""
    queue = uuid.uuid4().hex
    job = await add_job(owner, queue=queue, run_id=queue, tags=(queue,), arguments=b'{"n":1}')
    assert len((await app.find(JobFilter(queue=queue))).jobs) == 1
    assert len((await app.find(JobFilter(run_id=queue))).jobs) == 1
    assert len((await app.find(JobFilter(tags=(queue,)))).jobs) == 1
    assert (await app.find(JobFilter(states=list(JobState)))).jobs  # type: ignore[arg-type]
    assert await app.counts()
    await app.queues()
    await app.statistics()
    await app.depths()
    await app.operations()
    await app.operations([new_id()])
    await app.audit()
    await app.depth_history()
    assert await app.jobs_ahead(job) == 0
    assert await app.count(JobFilter(queue=queue)) == 1
    assert len((await app.find(JobFilter(queue=queue, argument=("n", 1)))).jobs) == 1
    assert len((await app.find(JobFilter(queue=queue, states=list(JobState)))).jobs) == 1  # type: ignore[arg-type]
    assert (await app.get([job]))[0] is not None
    async with await psycopg.AsyncConnection.connect(**app._settings.address.conninfo) as connection:
        assert (await app.get([job], connection=connection))[0] is not None
    assert (await app.get_status([job]))[0] is not None
    assert await app.read_logs(job) == []
    assert await app.output_for(queue, "noop", b"f" * 16) is None
    assert (await app.counts(queue))[queue][JobState.PENDING] == 1
    await app.workers()
    await app.diagnose()
    assert await app.oldest_transaction() is not None
    async with app.subscribe(["finished"]) as subscription:
        await owner.delete([job])
        assert await subscription.wait(20) == {"finished"}


async def operate(app: PostgresQueueStorage, owner: PostgresQueueStorage) -> None:
    """Control jobs in every state."""
    await read(app, owner)
    queue = uuid.uuid4().hex
    worker = await register_worker(owner, queues=(queue,))
    for state in JobState:
        for operation in (app.disable, app.enable, app.abort, app.retry, app.delete):
            line = f"{queue} {state} {operation.__name__}"
            job = await job_in(owner, worker, state, queue=line, unique_key=None if state is JobState.BLOCKED else "k")
            (change,) = await operation([job])
            assert change.before is state
    (job,) = [added.id for added in await owner.add([new_job(queue=queue, run_at=60.0)])]
    assert [change.altered for change in await app.move([job], f"{queue} 2")] == [True]
    assert [change.altered for change in await app.set_priority([job], 9)] == [True]
    assert [change.altered for change in await app.run_now([job])] == [True]
    bulk = await start(app, Action.ENABLE, JobFilter(queue=f"{queue} 2"), actor="kai")
    assert await app.save_operation(bulk, seen=None)
    assert await app.cancel_operation(bulk.id)
    await app.record_audit([AuditEntry(id=new_id(), at=bulk.created_at, actor="kai", action="pause", target=queue)])
    request = WorkerRequest(
        id=new_id(), worker=worker.id, action=WorkerAction.STACK, job=None, actor="kai", asked_at=bulk.created_at
    )
    assert await app.ask_worker(request)
    assert await app.get_requests([request.id])
    await app.set_queue(queue, QueueOptions(paused=True, retention=Retention()))
    await owner.add([new_job(queue=queue, run_id=queue)])
    assert len(await app.abort_run(queue)) == 1
    assert await app.clear(queue) == 1
    await owner.deregister(worker.id)


ACTS: dict[str, Act] = {"producer": produce, "worker": work, "reader": read, "operator": operate}
