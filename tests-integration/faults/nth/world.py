"""A world in which every operation has something to do: jobs in all states, workers alive and lost, keys, retention."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import attrs

from jobq_core.logs import log_storage
from jobq_core.records import ErrorRecord, WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import UNKNOWN_KIND, NewJob, QueueOptions, QueueStorage, Retention, Settlement
from jobq_core.testing.contract.logs import new_part
from jobq_core.testing.helpers import claim_one, job_in, new_job

START = 1_767_571_200
"""Monday, 5 January 2026, in seconds since 1970: the clock while an operation fails."""
EARLIER = START - 1000
"""The clock while the world is made."""
LATER = START + 7200
"""The clock while the remaining jobs run: all earlier workers are lost, and all delayed jobs are due."""

CHUNK = 12
"""How many jobs of a queue or a run are changed in one transaction."""
QUEUES = ("a", "b")
PRINT = bytes(16)
FOLLOW_UP = b"{}"
"""Of no kind, so that the maintenance of a worker adds nothing."""
ERROR = ErrorRecord(type="ValueError", message="no such file", traceback="Traceback …\nValueError")


@attrs.define
class World:
    """The names of the jobs and workers in the world."""

    ids: dict[str, UUID] = attrs.field(factory=dict)
    leases: dict[str, int] = attrs.field(factory=dict)

    def id(self, name: str) -> UUID:
        """Return the id of the job or worker with this name: a UUIDv7, the same each time."""
        number = len(self.ids) + 1
        return self.ids.setdefault(name, UUID(int=EARLIER * 1000 << 80 | 7 << 76 | number << 64 | 2 << 62 | number))

    def new(self, name: str, **options: Any) -> NewJob:
        """Describe a job."""
        return new_job(**{"id": self.id(name), "queue": "a", "kind": "step"} | options)

    def worker(self, name: str, **options: Any) -> WorkerInfo:
        """Describe a worker."""
        defaults: dict[str, Any] = {
            "id": self.id(name), "name": name, "host": "here", "pid": 1, "queues": QUEUES, "kinds": ("step",),
            "concurrency": 4, "lost_after": 1100.0,
        }  # fmt: skip
        return WorkerInfo(**defaults | options)

    def run(self, name: str) -> tuple[UUID, int]:
        """Return the id of a run: the job and the lease."""
        return self.id(name), self.leases[name]

    def settlement(self, name: str, ending: Ending, **options: Any) -> Settlement:
        """Describe how a run ended."""
        return Settlement(*self.run(name), ending, **options)


async def make(storage: QueueStorage, set_clock: Callable[[int], Awaitable[None]]) -> World:
    """Fill an empty storage; the clock stands at START afterwards."""
    world = World()
    await set_clock(EARLIER)
    mate, gone = world.worker("mate"), world.worker("gone", lost_after=90.0)
    for info in (mate, gone):
        await storage.register(info)
    await storage.lead(mate.id, 2000.0)
    await storage.set_queue("a", QueueOptions(retention=Retention(completed=100.0)))

    async def runs(name: str, worker: WorkerInfo, **options: Any) -> None:
        await storage.add([world.new(name, **options)])
        claimed = await claim_one(storage, worker, options.get("queue", "a"))
        assert claimed.id == world.id(name)
        world.leases[name] = claimed.lease

    async def in_state(name: str, state: JobState, **options: Any) -> None:
        job = world.new(name, **options)
        given = {field: getattr(job, field) for field in job.__struct_fields__ if field != "run_at"}
        await job_in(storage, mate, state, **given)

    await in_state("old", JobState.COMPLETED, fingerprint=PRINT, unique_key="free")
    await in_state("done", JobState.COMPLETED, queue="b", fingerprint=PRINT)
    await in_state("failed", JobState.FAILED, max_attempts=1, tags=("x", "y"))
    await in_state("aborted", JobState.ABORTED, run_id="run")
    for name in ("followed", "followed too"):
        await in_state(name, JobState.FAILED, queue="b", follow_up=FOLLOW_UP)
    await in_state("disabled", JobState.DISABLED)
    await in_state("later", JobState.SCHEDULED)
    await storage.add([world.new("due", run_at=500.0), world.new("due in b", run_at=500.0, queue="b", run_id="run")])
    await runs("odd", mate, kind="odd")
    unknown = world.settlement("odd", Ending.RELEASE, when=4000.0, reason=UNKNOWN_KIND)
    assert (await storage.settle_and_claim(mate.id, [unknown])).settled == [JobState.BLOCKED]

    for name in ("one", "two", "three", "to disable", "to abort"):
        await runs(name, mate, run_id="run" if name == "two" else None)
    await runs("last", mate, max_attempts=1, follow_up=FOLLOW_UP)
    await runs("lost", gone)
    await runs("lost at last", gone, max_attempts=1, unique_key="lost", follow_up=FOLLOW_UP)
    await runs("lost unstarted", gone, max_attempts=1)
    assert await storage.mark_started(gone.id, [world.run("lost at last")]) == [True]
    await storage.disable([world.id("to disable")])
    await storage.abort([world.id("to abort")])

    await runs("handed back", mate)
    back = world.settlement("handed back", Ending.RELEASE)
    assert (await storage.settle_and_claim(mate.id, [back])).settled == [JobState.PENDING]
    await storage.add(
        [
            world.new("keyed", unique_key="held", run_id="run"),
            world.new("ready", deadline=3600.0, timeout=60.0),
            world.new("urgent", priority=9),
            world.new("ready in b", queue="b"),
        ]
    )
    await log_storage(storage).write_logs([new_part(world.id(name)) for name in ("one", "failed", "old", "ready")])
    await set_clock(START)
    return world
