"""`why` of jobs that a storage holds: each is brought to its state as clients, workers and operators would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from jobq_core.ids import new_id
from jobq_core.memory import MemoryQueueStorage
from jobq_core.records import ErrorRecord, Progress, WorkerInfo, WorkerStats
from jobq_core.states import Ending
from jobq_core.storage import (
    UNFIT_ARGUMENTS,
    UNKNOWN_KIND,
    AuditEntry,
    ProgressReport,
    QueueOptions,
)
from jobq_core.testing import ManualClock, add_job, claim_one, new_job, register_worker, settle, start_one
from jobq_core.why import why

ERROR = ErrorRecord(type="ConnectionError", message="refused")


class Watched(MemoryQueueStorage):
    """Memory storage that counts what `why` reads."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.reads = 0

    def _transaction(self) -> Any:
        self.reads += 1
        return super()._transaction()


class Scene:
    """A storage whose clock the test moves, and what clients, workers and operators do with it."""

    def __init__(self, storage: Watched, clock: ManualClock) -> None:
        self.storage = storage
        self.clock = clock

    async def worker(self, **options: Any) -> WorkerInfo:
        defaults: dict[str, Any] = {"name": "w1", "queues": ("mail",), "kinds": ("send",), "concurrency": 2}
        return await register_worker(self.storage, **defaults | options)

    async def add(self, **options: Any) -> UUID:
        return await add_job(self.storage, **{"queue": "mail", "kind": "send"} | options)

    async def run(self, ending: Ending | None = None, **settlement: Any) -> UUID:
        """Let a worker start the one job there is, and settle it if an ending is given."""
        worker = await self.worker()
        claimed = await start_one(self.storage, worker)
        if ending is not None:
            await settle(self.storage, worker, claimed, ending, **settlement)
        return claimed.id

    async def audit(self, action: str, job: UUID) -> None:
        entry = AuditEntry(id=new_id(), at=self.clock.now(), actor="kai@web1", action=action, target=str(job))
        await self.storage.record_audit([entry])

    def beat(self, worker: WorkerInfo, **stats: Any) -> None:
        assert self.storage.heartbeat(worker).beat(WorkerStats(**stats))


Play = Callable[[Scene], Awaitable[UUID]]
SCENES: dict[str, tuple[Play, str]] = {}
"""What brings a job to a state, by the code of its reason, and what the sentence then says."""


def says(sentence: str) -> Callable[[Play], Play]:
    """Add a scene, whose name is the code of the reason."""

    def add(play: Play) -> Play:
        SCENES[play.__name__.rstrip("_").replace("_", "-")] = (play, sentence)
        return play

    return add


# SCHEDULED


@says("it is delayed until … (in 3 h)")
async def delayed(scene: Scene) -> UUID:
    return await scene.add(run_at=3 * 3600.0)


@says("attempt 1 of 10 failed with ConnectionError; the next one starts at … (in 40 s)")
async def backoff(scene: Scene) -> UUID:
    await scene.add()
    return await scene.run(Ending.RETRY, error=ERROR, when=40.0)


@says("its handler asked to go on at … (in 5 min)")
async def snoozed(scene: Scene) -> UUID:
    await scene.add()
    return await scene.run(Ending.SNOOZE, when=300.0)


@says("it starts at … (in 10 min), and fails first: its deadline is …")
async def deadline_first(scene: Scene) -> UUID:
    return await scene.add(run_at=600.0, deadline=300.0)


@says("it was due 2.0 s ago and starts in a moment")
async def due(scene: Scene) -> UUID:
    await scene.worker()
    job = await scene.add(run_at=5.0)
    scene.clock.advance(7)
    return job


@says("it was due 20 s ago, at …, and no worker has started it: see their logs")
async def not_promoted(scene: Scene) -> UUID:
    await scene.worker()
    job = await scene.add(run_at=5.0)
    scene.clock.advance(25)
    return job


@says("it has been due since …, and no worker is alive to start it")
async def no_maintenance(scene: Scene) -> UUID:
    job = await scene.add(run_at=5.0)
    scene.clock.advance(25)
    return job


# BLOCKED


@says("it waits to be admitted")
async def gated(scene: Scene) -> UUID:
    return await scene.add(gated=True)


@says("no live worker of queue 'mail' knows the kind 'resize': deploy one that declares it")
async def unknown_kind(scene: Scene) -> UUID:
    await scene.add(kind="resize")
    return await scene.run(Ending.SUSPEND, reason=UNKNOWN_KIND)


@says("worker 'w2' knows its kind 'resize' and frees it at its next claim")
async def kind_known_again(scene: Scene) -> UUID:
    job = await unknown_kind(scene)
    await scene.worker(name="w2", kinds=("resize",))
    return job


@says("its arguments do not fit the declaration of 'send' on any worker: deploy one that takes them")
async def unfit_arguments(scene: Scene) -> UUID:
    await scene.add()
    return await scene.run(Ending.SUSPEND, reason=UNFIT_ARGUMENTS)


@says("its worker holds it back: licence expired, until … at the latest")
async def held_back(scene: Scene) -> UUID:
    await scene.add()
    return await scene.run(Ending.RELEASE, when=60.0, reason="licence expired")


# DISABLED


@says("it was disabled by kai@web1 at …; to let it run: jobq enable …")
async def disabled(scene: Scene) -> UUID:
    job = await scene.add()
    await scene.storage.disable([job])
    await scene.audit("disable", job)
    return job


# PENDING


@says("queue 'mail' was paused by kai@web1 at …; to resume it: jobq resume mail")
async def queue_paused(scene: Scene) -> UUID:
    await scene.worker()
    await scene.storage.set_queue("mail", QueueOptions(paused=True, actor="kai@web1"))
    return await scene.add()


@says("no worker is alive: start one that serves queue 'mail'")
async def no_worker(scene: Scene) -> UUID:
    return await scene.add()


@says("the last worker of queue 'mail', 'w1', has been silent for 40 s: start a worker")
async def worker_lost(scene: Scene) -> UUID:
    await scene.worker()
    scene.clock.advance(40)
    return await scene.add()


@says("no live worker serves queue 'mial'; did you mean 'mail'?")
async def queue_not_served(scene: Scene) -> UUID:
    await scene.worker()
    return await scene.add(queue="mial")


@says("no live worker of queue 'mail' knows the kind 'resize': deploy one that declares it")
async def kind_not_served(scene: Scene) -> UUID:
    await scene.worker()
    return await scene.add(kind="resize")


@says("the workers of queue 'mail' have no slots: they were scaled to 0")
async def no_slots(scene: Scene) -> UUID:
    scene.beat(await scene.worker(), slots=0)
    return await scene.add()


@says("all 2 slots of the worker of queue 'mail' are busy, and 2 jobs are ahead of it")
async def slots_busy(scene: Scene) -> UUID:
    scene.beat(await scene.worker(), running=2)
    await scene.storage.add([new_job(queue="mail", kind="send") for _ in range(2)])
    return await scene.add()


@says("1,200 jobs are ahead of it in queue 'mail', and 1 of 2 slots are free")
async def in_line(scene: Scene) -> UUID:
    scene.beat(await scene.worker(), running=1)
    await scene.storage.add([new_job(queue="mail", kind="send", priority=n % 2) for n in range(1200)])
    return await scene.add()


@says("the limiter of worker 'w1' opens in 12 s")
async def limited(scene: Scene) -> UUID:
    scene.beat(await scene.worker(), limited=12.0)
    return await scene.add()


@says("the loop of worker 'w1' is blocked: see its log")
async def loop_blocked(scene: Scene) -> UUID:
    scene.beat(await scene.worker(), loop_lag=9.0)
    return await scene.add()


@says("it is next in queue 'mail'; its workers receive no notifications and look every second")
async def polling(scene: Scene) -> UUID:
    scene.beat(await scene.worker(), hears=False)
    return await scene.add()


@says("it is next in queue 'mail' and starts in a moment: 2 of 2 slots are free")
async def next_(scene: Scene) -> UUID:
    await scene.worker()
    return await scene.add()


@says("its deadline passed at …: it fails in a moment")
async def past_deadline(scene: Scene) -> UUID:
    await scene.worker()
    job = await scene.add(deadline=5.0)
    scene.clock.advance(6)
    return job


# PROCESSING


@says("it has been running on 'w1' for 25 s, attempt 1 of 10: 40 % half")
async def running(scene: Scene) -> UUID:
    job = await scene.add()
    worker = await scene.worker()
    claimed = await claim_one(scene.storage, worker)
    progress = Progress(percent=40.0, message="half")
    await scene.storage.progress(worker.id, [ProgressReport(id=job, lease=claimed.lease, progress=progress)])
    scene.clock.advance(25)
    return job


@says("it was asked to abort by kai@web1 12 s ago, and its handler is still running on 'w1' after 22 s")
async def aborting(scene: Scene) -> UUID:
    await scene.add()
    job = await scene.run()
    scene.clock.advance(10)
    await scene.storage.abort([job])
    await scene.audit("abort", job)
    scene.clock.advance(12)
    return job


@says("it was asked to stop and to be disabled, and its handler is still running on 'w1' after 10 s")
async def disabling(scene: Scene) -> UUID:
    await scene.add()
    job = await scene.run()
    await scene.storage.disable([job])
    scene.clock.advance(10)
    return job


@says("its handler is still running past its timeout of 5.0 s on 'w1': jobq workers drain w1")
async def hung(scene: Scene) -> UUID:
    await scene.add(timeout=5.0)
    job = await scene.run()
    scene.clock.advance(25)
    return job


@says(
    "it has waited for 25 s for a handler process of 'w1', as of 5.0 s ago: "
    "all are busy or starting (see process_limit)"
)
async def no_process(scene: Scene) -> UUID:
    job = await scene.add(timeout=5.0)
    worker = await scene.worker()
    await start_one(scene.storage, worker)
    scene.clock.advance(20)
    scene.beat(worker, awaiting_process=(job,), running=2)
    scene.clock.advance(5)
    return job


@says("its worker 'w1' has missed its heartbeat for 34 s; a live worker rescues it within 5 s")
async def rescue(scene: Scene) -> UUID:
    await scene.add()
    job = await scene.run()
    scene.clock.advance(34)
    await scene.worker(name="w2")
    return job


@says("the loop of its worker 'w1' has not answered for 12 s: see its log")
async def worker_blocked(scene: Scene) -> UUID:
    job = await scene.add()
    worker = await scene.worker()
    await claim_one(scene.storage, worker)
    scene.beat(worker, loop_lag=12.0, running=1)
    return job


# Ended


@says("it completed at … after 30 s, in attempt 1")
async def completed(scene: Scene) -> UUID:
    job = await scene.add()
    worker = await scene.worker(lost_after=600.0)
    claimed = await claim_one(scene.storage, worker)
    scene.clock.advance(30)
    await settle(scene.storage, worker, claimed)
    return job


@says("it failed at … in the last of 2 attempts, with ConnectionError: refused")
async def attempts_spent(scene: Scene) -> UUID:
    await scene.add(max_attempts=2)
    await scene.run(Ending.RETRY, error=ERROR)
    return await scene.run(Ending.FAIL, error=ERROR)


@says("it failed at … in attempt 1 of 10, and is not retried, with ConnectionError: refused")
async def permanent_error(scene: Scene) -> UUID:
    await scene.add()
    return await scene.run(Ending.FAIL, error=ERROR)


@says("it failed at …: its deadline passed before it could start again, after 1 of 10 attempts")
async def deadline_passed(scene: Scene) -> UUID:
    await scene.add(deadline=60.0)
    job = await scene.run(Ending.RETRY, error=ERROR, when=600.0)
    scene.clock.advance(61)
    await scene.storage.expire()
    return job


@says("it failed at …: its worker was lost in its last attempt")
async def worker_lost_last(scene: Scene) -> UUID:
    await scene.add(max_attempts=1)
    job = await scene.run()
    scene.clock.advance(31)
    await scene.storage.rescue()
    return job


@says("it was aborted by kai@web1 at …")
async def aborted(scene: Scene) -> UUID:
    job = await scene.add()
    await scene.storage.abort([job])
    await scene.audit("abort", job)
    return job


@says("there is no job …: it was never added, was deleted, or its retention is over")
async def not_found(scene: Scene) -> UUID:
    return new_id()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    clock = ManualClock()
    async with Watched(clock=clock) as storage:
        yield Scene(storage, clock)


@pytest.mark.parametrize("code", SCENES)
async def test_why_says_what_a_job_waits_for_or_how_it_ended(scene: Scene, code: str) -> None:
    play, sentence = SCENES[code]
    job = await play(scene)
    before = scene.storage.reads
    reason = await why(scene.storage, job)
    assert reason.code == code
    parts = sentence.split("…")
    assert reason.sentence.startswith(parts[0])
    assert reason.sentence.endswith(parts[-1])
    assert all(part in reason.sentence for part in parts)
    assert scene.storage.reads - before <= 5
    if reason.at is not None:
        assert abs(reason.at - scene.clock.now()) <= timedelta(hours=3)


async def test_causes_that_no_free_slot_would_end_come_first(scene: Scene) -> None:
    await scene.storage.add([new_job(queue="mail", kind="send") for _ in range(5)])
    job = await scene.add()
    assert (await why(scene.storage, job)).code == "no-worker"
    await scene.storage.set_queue("mail", QueueOptions(paused=True))
    assert (await why(scene.storage, job)).code == "queue-paused"
