"""Every operation of the contract on the world, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from jobq_core.errors import LeaseLostError
from jobq_core.logs import log_storage
from jobq_core.records import Progress, WorkerStats
from jobq_core.states import Ending, JobState
from jobq_core.storage import (
    Claim,
    EndedJob,
    JobFilter,
    NewJob,
    ProgressReport,
    QueueOptions,
    Retention,
    Settlement,
    queue_topic,
)
from jobq_core.testing.contract.logs import new_part
from jobq_core.testing.helpers import new_job

from .operators import OPERATORS
from .scenario import Partly, Scenario, Stage, in_parts, reads
from .world import CHUNK, ERROR, PRINT, QUEUES

# Adding


async def add_one(stage: Stage) -> Any:
    return await stage.storage.add([stage.world.new("new", tags=("x",), deadline=9000.0)])


async def add_another(stage: Stage) -> Any:
    return await stage.storage.add([stage.world.new("another")])


async def add_again(stage: Stage) -> Any:
    return await stage.storage.add([stage.world.new("ready")])


async def add_several(stage: Stage) -> Any:
    new = stage.world.new
    return await stage.storage.add(
        [new("new"), new("new too", run_at=50.0), new("new in b", queue="b"), new("ready"), new("new as well")]
    )


async def add_unique(stage: Stage) -> Any:
    new = stage.world.new
    return await stage.storage.add(
        [
            new("new", unique_key="held"),
            new("new too", unique_key="free"),
            new("new twin", unique_key="free"),
            new("plain"),
            new("keyed", unique_key="held"),
        ]
    )


async def add_for_a_caller(stage: Stage) -> Any:
    async with stage.caller() as connection:
        return await stage.storage.add(
            [stage.world.new("new"), stage.world.new("new too", run_at=50.0)], connection=connection
        )


async def add_unique_for_a_caller(stage: Stage) -> Any:
    async with stage.caller() as connection:
        return await stage.storage.add(
            [stage.world.new("new", unique_key="held"), stage.world.new("new too", unique_key="free")],
            connection=connection,
        )


async def add_in_autocommit(stage: Stage) -> Any:
    async with stage.caller(autocommit=True) as connection:
        return await stage.storage.add(
            [stage.world.new("new"), stage.world.new("new too", unique_key="free")], connection=connection
        )


# The hot path


async def settle_and_claim(stage: Stage) -> Any:
    """Settle with all endings, an unknown and an expired lease; claim more jobs than there are."""
    ending = stage.world.settlement
    return await stage.storage.settle_and_claim(
        stage.world.id("mate"),
        [
            ending("one", Ending.COMPLETE, result=b"[1]"),
            ending("two", Ending.RETRY, error=ERROR, when=50.0),
            ending("three", Ending.COMPLETE),
            ending("to disable", Ending.RETRY, error=ERROR),
            ending("to abort", Ending.ABORT, error=ERROR),
            ending("last", Ending.FAIL, error=ERROR),
            ending("handed back", Ending.COMPLETE),
            Settlement(stage.world.id("failed"), 10**9, Ending.COMPLETE),
        ],
        Claim.of(*QUEUES, limit=100),
    )


async def settle(stage: Stage) -> Any:
    ending = stage.world.settlement
    return await stage.storage.settle_and_claim(
        stage.world.id("mate"), [ending("one", Ending.COMPLETE), ending("two", Ending.COMPLETE, result=b'"done"')]
    )


async def claim(stage: Stage) -> Any:
    stage.advance_watermarks()
    return await stage.storage.settle_and_claim(stage.world.id("mate"), (), Claim.of(*QUEUES, limit=100))


async def complete(stage: Stage) -> Any:
    settlement = stage.world.settlement("two", Ending.COMPLETE, result=b'"done"', jobs=(stage.world.new("new"),))
    async with stage.caller() as connection:
        try:
            await stage.storage.complete(settlement, connection=connection)
        except LeaseLostError:
            # An earlier try was committed.
            (record,) = await stage.storage.get([settlement.id], connection=connection)
            assert record is not None
            assert record.state is JobState.COMPLETED


async def mark_started(stage: Stage) -> Any:
    run = stage.world.run
    return await stage.storage.mark_started(
        stage.world.id("mate"), [run("last"), run("one"), run("lost"), run("handed back")]
    )


async def check_leases(stage: Stage) -> Any:
    run = stage.world.run
    return await stage.storage.check_leases(stage.world.id("mate"), [run("one"), run("to abort"), run("lost")])


async def recover_claims(stage: Stage) -> Any:
    return await stage.storage.recover_claims(stage.world.id("mate"), [stage.world.leases["one"]])


async def progress(stage: Stage) -> Any:
    return await stage.storage.progress(
        stage.world.id("mate"),
        [
            ProgressReport(id=job_id, lease=lease, progress=Progress(percent=50.0, message="half", details=[1]))
            for job_id, lease in map(stage.world.run, ("one", "two", "handed back"))
        ],
    )


# Logs


async def write_logs(stage: Stage) -> Any:
    one, two = (stage.world.run(name) for name in ("one", "two"))
    parts = [new_part(*one, 0), new_part(*one, 1), new_part(*two, 0), new_part(stage.world.id("never"))]
    await log_storage(stage.storage).write_logs(parts)


async def read_logs(stage: Stage) -> Any:
    return await log_storage(stage.storage).read_logs(stage.world.id("failed"))


# Control


def control(operation: str, *names: str, partly: Partly | None = None) -> Scenario:
    async def act(stage: Stage) -> Any:
        return await getattr(stage.storage, operation)([stage.world.id(name) for name in names])

    return Scenario(act=act, partly=partly)


def control_for_a_caller(operation: str, *names: str) -> Scenario:
    async def act(stage: Stage) -> Any:
        async with stage.caller() as connection:
            ids = [stage.world.id(name) for name in names]
            return await getattr(stage.storage, operation)(ids, connection=connection)

    act.__name__ = f"{operation}_for_a_caller"
    return Scenario(act=act, theirs=True)


async def abort_run(stage: Stage) -> Any:
    return sorted(await stage.storage.abort_run("run"), key=lambda change: change.id)  # the order is not promised


async def clear(stage: Stage) -> Any:
    return await stage.storage.clear("a")


# Reading


async def get(stage: Stage) -> Any:
    return await stage.storage.get([stage.world.id("failed"), stage.world.id("one"), stage.world.id("never")])


async def find(stage: Stage) -> Any:
    find = stage.storage.find
    return [
        await find(JobFilter()),
        await find(JobFilter(queue="a", states=frozenset({JobState.FAILED, JobState.PROCESSING}), tags=("x",))),
        await find(JobFilter(run_id="run"), limit=2),
    ]


async def counts(stage: Stage) -> Any:
    return await stage.storage.counts()


async def get_status(stage: Stage) -> Any:
    return await stage.storage.get_status([stage.world.id("failed"), stage.world.id("old"), stage.world.id("never")])


async def output_for(stage: Stage) -> Any:
    return await stage.storage.output_for("a", "step", PRINT)


async def now(stage: Stage) -> Any:
    return await stage.storage.now()


# Workers, and maintenance


async def register(stage: Stage) -> Any:
    await stage.storage.register(stage.world.worker("fresh", kinds=("step", "odd")))


async def register_again(stage: Stage) -> Any:
    await stage.storage.register(stage.world.worker("mate", concurrency=9))


async def beat(stage: Stage) -> Any:
    if stage.heartbeat is None:
        stage.heartbeat = stage.storage.heartbeat(stage.world.worker("mate"))
    return await asyncio.to_thread(stage.heartbeat.beat, WorkerStats(completed=7, busy_seconds=1.5))


async def deregister(stage: Stage) -> Any:
    await stage.storage.deregister(stage.world.id("mate"))


async def workers(stage: Stage) -> Any:
    return await stage.storage.workers()


async def lead(stage: Stage) -> Any:
    return await stage.storage.lead(stage.world.id("mate"), 60.0)


async def resign(stage: Stage) -> Any:
    await stage.storage.resign(stage.world.id("mate"))


async def promote(stage: Stage) -> Any:
    return await stage.storage.promote()


async def rescue(stage: Stage) -> Any:
    return await stage.storage.rescue()


async def expire(stage: Stage) -> Any:
    return await stage.storage.expire()


async def admit(stage: Stage) -> Any:
    return await stage.storage.admit([stage.world.id("ready"), stage.world.id("odd")])


async def resolve(stage: Stage) -> Any:
    """Add a job for each end. Each call makes new ids, so that one that is added twice is seen twice."""

    def follow(ended: Sequence[EndedJob]) -> list[NewJob]:
        return [new_job(queue="b", kind="odd", run_id=str(end.id)) for end in ended]

    await stage.storage.resolve(follow=follow)


async def set_queue(stage: Stage) -> Any:
    await stage.storage.set_queue("b", QueueOptions(retention=Retention(completed=50.0)))


async def set_queue_and_pause(stage: Stage) -> Any:
    """Set all options of a queue that no worker of the test waits for."""
    options = QueueOptions(paused=True, retention=Retention(failed=50.0), actor="kai")
    await stage.storage.set_queue("c", options)


async def queues(stage: Stage) -> Any:
    return await stage.storage.queues()


async def statistics(stage: Stage) -> Any:
    return len(await stage.storage.statistics())


async def see_statistics(stage: Stage) -> Any:
    """Read minutes, and the steps to which they are summed up."""
    return [record for step in (60, 600) for record in await stage.other.statistics(step=step)]


async def sample_depths(stage: Stage) -> Any:
    return await stage.storage.sample_depths()


async def see_depths(stage: Stage) -> Any:
    return [point for step in (60, 600) for point in await stage.other.depth_history(step=step)]


async def prune(stage: Stage) -> Any:
    return await stage.storage.prune()


# Opening, and the notifier


async def open_(stage: Stage) -> Any:
    await stage.storage.open()


async def subscribe(stage: Stage) -> Any:
    """Wait for a notification: the subscriber receives one in the end, whatever happens to the connection."""
    async with asyncio.timeout(20), stage.storage.subscribe([queue_topic("a")]) as subscription:
        while not await subscription.wait(0.05):
            # This notifies, and changes nothing that can be seen.
            await stage.other.set_queue("a", QueueOptions(paused=False))


OPERATIONS: dict[str, tuple[Scenario, ...]] = {
    "open": (Scenario(act=open_, changes=False, opened=False),),
    "now": (reads(now),),
    "add": (
        Scenario(act=add_one),
        Scenario(act=add_one, before=add_another),
        reads(add_again),
        Scenario(act=add_several),
        Scenario(act=add_unique),
        Scenario(act=add_for_a_caller, theirs=True),
        Scenario(act=add_unique_for_a_caller, theirs=True),
        Scenario(act=add_in_autocommit, theirs=True),
    ),
    "settle_and_claim": (Scenario(act=settle_and_claim, see=see_statistics), Scenario(act=settle), Scenario(act=claim)),
    "complete": (Scenario(act=complete, theirs=True),),
    "mark_started": (Scenario(act=mark_started),),
    "check_leases": (reads(check_leases),),
    "recover_claims": (reads(recover_claims),),
    "progress": (Scenario(act=progress),),
    "write_logs": (Scenario(act=write_logs),),
    "read_logs": (reads(read_logs),),
    "abort": (
        control("abort", "ready", "due", "disabled", "odd", "one", "to disable", "old", "never", "ready"),
        control_for_a_caller("abort", "ready", "due", "one", "old"),
    ),
    "abort_run": (Scenario(act=abort_run, partly=in_parts(1, 3)),),
    "retry": (control("retry", "failed", "aborted", "old", "ready"), control_for_a_caller("retry", "failed", "old")),
    "disable": (
        control("disable", "ready", "later", "odd", "one", "to abort", "failed"),
        # In two transactions, of which the first one meets one job.
        control("disable", "ready", *(f"never {n}" for n in range(CHUNK - 1)), "later", "odd", partly=in_parts(1, 3)),
    ),
    "enable": (control("enable", "disabled", "to disable", "later", "old"),),
    "delete": (control("delete", "ready", "later", "one", "failed", "keyed", "old", "never"),),
    "clear": (Scenario(act=clear, partly=in_parts(CHUNK, 20)),),
    "get": (reads(get),),
    "find": (reads(find),),
    "counts": (reads(counts),),
    "get_status": (reads(get_status),),
    "output_for": (reads(output_for),),
    "register": (Scenario(act=register), Scenario(act=register_again)),
    "heartbeat": (Scenario(act=beat),),
    "deregister": (Scenario(act=deregister),),
    "workers": (reads(workers),),
    "lead": (Scenario(act=lead),),
    "resign": (Scenario(act=resign),),
    "promote": (Scenario(act=promote),),
    "rescue": (Scenario(act=rescue),),
    "prune": (Scenario(act=prune, see=see_statistics),),
    "sample_depths": (Scenario(act=sample_depths, see=see_depths, aside=True),),
    "expire": (reads(expire),),
    "admit": (reads(admit),),
    "resolve": (Scenario(act=resolve),),
    "set_queue": (Scenario(act=set_queue), Scenario(act=set_queue_and_pause, aside=True)),
    "queues": (reads(queues),),
    "statistics": (reads(statistics),),
    "subscribe": (Scenario(act=subscribe, changes=False, most=4),),
    **OPERATORS,
}
ELSEWHERE = {
    # They send no statement.
    *("from_url", "url", "close", "migration_sql"),
    # `test_nth_migration.py` tries it.
    "migrate",
    # Each reads with one statement, as `counts`, `queues` and `read_logs` do, which are tried.
    *("depths", "depth_history", "jobs_ahead", "overdue", "count", "operations", "audit", "worker_requests"),
    "get_requests",
}
"""Methods that are not tried here."""
