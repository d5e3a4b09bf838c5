"""The common part of all places: inspect a world, and let a worker run its remaining jobs."""

from __future__ import annotations

import abc
import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar
from uuid import UUID

import attrs
import msgspec

from jobq_core import JobContext, job
from jobq_core.records import JobRecord
from jobq_core.states import FINISHED, JobState
from jobq_core.storage import JobFilter, QueueStorage
from jobq_worker import JobQueueWorker

from .scenario import Stage
from .world import LATER, QUEUES, World


@attrs.frozen(kw_only=True)
class Kind:
    """A way to fail. after: whether the statement is executed first. code: the database's error code.

    breaks: whether the connection is lost, which leaves the result of a commit unknown. undoes: whether the database
    rolls the transaction back by itself. error: raised in place of the driver's error. freezes: whether the client
    stops once the statement, and those sent with it, are answered.
    """

    name: str
    after: bool = False
    code: Any = None
    breaks: bool = False
    undoes: bool = False
    error: type[Exception] | None = None
    freezes: bool = False


class Fault:
    """Fails the N-th statement, counted while `armed` is set."""

    def __init__(self, kind: Kind | None = None, nth: int = 0) -> None:
        self.kind = kind
        self.nth = nth
        self.armed = False
        self.statements: list[str] = []
        """The statements while the fault was armed, up to the failed one."""
        self.together: Sequence[str] = ()
        """The statements sent together with the failed one."""
        self.frozen = asyncio.Event()
        """Set once the client has stopped."""
        self.thawed = False
        """Whether a frozen client goes on: it then finds its connection lost."""

    @property
    def fired(self) -> bool:
        """Whether a statement has failed."""
        return self.kind is not None and len(self.statements) >= self.nth

    def strikes(self, statements: Sequence[str]) -> int | None:
        """Record statements that are sent together; return the index of the one that must fail, or None."""
        if not self.armed or self.fired:
            return None
        before = len(self.statements)
        self.statements += statements
        if not self.fired:
            return None
        self.together = statements
        del self.statements[self.nth :]
        return self.nth - before - 1

    def __str__(self) -> str:
        kind = "no fault" if self.kind is None else self.kind.name
        return f"{kind}, statement {self.nth} of {self.statements}"


@attrs.frozen
class Sight:
    """Everything visible in a storage, as plain values; and the job records."""

    plain: dict[str, Any]
    records: list[JobRecord]


class Place(abc.ABC):
    """A database with a world in it."""

    name: ClassVar[str]
    kinds: ClassVar[tuple[tuple[Kind, ...], ...]]
    """The ways to fail, in groups of similar ones, which take turns outside a soak."""
    ways: ClassVar[tuple[bool, ...]] = (True,)
    """The ways to run statements."""
    other: QueueStorage
    """A storage without faults."""
    world: World

    @abc.abstractmethod
    async def restore(self) -> None:
        """Restore the original world; the clock stands at START."""

    @abc.abstractmethod
    async def set_clock(self, now: int) -> None:
        """Set the clock to this number of seconds since 1970."""

    @abc.abstractmethod
    def stage(self, fault: Fault, *, opened: bool, way: bool) -> AbstractAsyncContextManager[Stage]:
        """Open a storage with the fault injected."""

    @abc.abstractmethod
    async def settled(self, stage: Stage) -> None:
        """Wait until the background work of an operation has ended."""

    @abc.abstractmethod
    async def more(self) -> dict[str, Any]:
        """Read what no operation shows: leadership, retention, unique keys, start marks of runs, kept
        ends, logs."""

    @abc.abstractmethod
    async def nothing_is_open(self) -> None:
        """Fail if any transaction is open."""

    async def look(self) -> Sight:
        """Read everything, and check that the counts match the records."""
        records = (await self.other.find(JobFilter(), limit=10_000)).jobs
        counted = {
            (queue, state): count
            for queue, states in (await self.other.counts()).items()
            for state, count in states.items()
            if count
        }
        assert counted == Counter((record.queue, record.state) for record in records)
        more = await self.more()
        held = sorted((r.id, r.unique_key) for r in records if r.unique_key is not None and r.state not in FINISHED)
        assert more.pop("keys", held) == held
        workers = await self.other.workers()
        return Sight(self.plain({"records": records, "workers": workers, **more}), records)

    def plain(self, answer: Any) -> Any:
        """Make an answer comparable: leases, and the ids of jobs that `resolve` adds, differ between two runs of an
        operation, but not in their order."""
        built = msgspec.to_builtins(answer, str_keys=True)
        known = max(self.world.leases.values())
        fresh: dict[Any, str] = {lease: f"lease {n}" for n, lease in enumerate(sorted(set(_leases(built, known))))}
        ids = {str(known_id) for known_id in self.world.ids.values()}
        fresh |= {job_id: f"job {n}" for n, job_id in enumerate(sorted(set(_ids(built)) - ids))}
        return _renamed(built, fresh)

    async def drain(self, stage: Stage, due: Sequence[UUID]) -> list[UUID]:
        """Let a worker on the storage with the fault run the remaining jobs; return its runs."""
        await self.set_clock(LATER)
        storage = stage.storage
        await storage.rescue()
        disabled = await storage.find(JobFilter(states=frozenset({JobState.DISABLED})))
        await storage.enable([record.id for record in disabled.jobs])
        RAN.clear()
        worker = JobQueueWorker(storage, jobs=[step, odd], queues=QUEUES, concurrency=10)
        await worker.start()
        try:
            until = time.monotonic() + 40
            while unfinished := await self._unfinished():
                assert time.monotonic() < until, f"stuck: {unfinished}"
                await asyncio.sleep(0.005)
        finally:
            await worker.stop()
        # The server may still execute a statement of maintenance that the worker no longer waits for, a pruning say.
        await self.nothing_is_open()
        left = {record.id: record.state for record in (await self.look()).records}
        assert not [job_id for job_id in due if left.get(job_id) not in FINISHED]
        return list(RAN)

    async def _unfinished(self) -> Mapping[Any, int]:
        counted = await self.other.counts()
        return {
            (queue, state): count
            for queue, states in counted.items()
            for state, count in states.items()
            if count and state not in FINISHED
        }


RAN: list[UUID] = []
"""The jobs that the worker has run."""


@job(name="step")
async def step(context: JobContext) -> None:
    RAN.append(context.job_id)


@job(name="odd")
async def odd(context: JobContext) -> None:
    RAN.append(context.job_id)


def _leases(value: Any, known: int) -> list[int]:
    if isinstance(value, list):
        return [lease for each in value for lease in _leases(each, known)]
    if isinstance(value, dict):
        found = [lease for each in value.values() for lease in _leases(each, known)]
        lease = value.get("lease")
        return [*found, lease] if isinstance(lease, int) and lease > known else found
    return []


def _ids(value: Any) -> list[str]:
    """Return the ids of the jobs in a value."""
    if isinstance(value, dict):
        own = [value["id"]] if "id" in value and "queue" in value else []
        return own + _ids(list(value.values()))
    return [job_id for each in value for job_id in _ids(each)] if isinstance(value, list) else []


def _renamed(value: Any, fresh: dict[Any, str]) -> Any:
    if isinstance(value, list):
        return [_renamed(each, fresh) for each in value]
    if isinstance(value, dict):
        return {
            key: fresh.get(each, each) if key in ("lease", "id") else _renamed(each, fresh)
            for key, each in value.items()
        }
    return value
