"""What is alike wherever a world is: how it is looked at, and how a worker runs what is left in it."""

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

from .operations import Stage
from .world import LATER, QUEUES, World


@attrs.frozen(kw_only=True)
class Kind:
    """A way to fail. after: whether the statement is done first; code: the database's word for it.

    breaks: whether the connection is lost with it, so that nobody can know what became of a commit. undoes: whether the
    database undoes the transaction by itself. error: what is raised in place of the driver's error.
    """

    name: str
    after: bool = False
    code: Any = None
    breaks: bool = False
    undoes: bool = False
    error: type[Exception] | None = None


class Fault:
    """Fails the N-th statement from `armed` on."""

    def __init__(self, kind: Kind | None = None, nth: int = 0) -> None:
        self.kind = kind
        self.nth = nth
        self.armed = False
        self.statements: list[str] = []
        """What was asked while it was armed, up to where it fired."""
        self.together: Sequence[str] = ()
        """What was sent together with the one that failed."""

    @property
    def fired(self) -> bool:
        """Whether it was met."""
        return self.kind is not None and len(self.statements) >= self.nth

    def strikes(self, statements: Sequence[str]) -> int | None:
        """Note statements that are sent together; return which of them is to fail, None if none of them is."""
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
    """All that can be seen, in plain values; and the records it was made of."""

    plain: dict[str, Any]
    records: list[JobRecord]


class Place(abc.ABC):
    """Where a world is."""

    name: ClassVar[str]
    kinds: ClassVar[tuple[tuple[Kind, ...], ...]]
    """The ways to fail, of which those side by side are much alike: outside a soak they take turns."""
    ways: ClassVar[tuple[bool, ...]] = (True,)
    """The ways to run statements."""
    other: QueueStorage
    """A storage that nothing befalls."""
    world: World

    @abc.abstractmethod
    async def restore(self) -> None:
        """Make everything as it was when the world was made; the clock stands at START."""

    @abc.abstractmethod
    async def set_clock(self, now: int) -> None:
        """Let it be that many seconds since 1970."""

    @abc.abstractmethod
    def stage(self, fault: Fault, *, opened: bool, way: bool) -> AbstractAsyncContextManager[Stage]:
        """Open a storage that the fault may befall."""

    @abc.abstractmethod
    async def settled(self, stage: Stage) -> None:
        """Wait for what an operation left to be done in the background."""

    @abc.abstractmethod
    async def more(self) -> dict[str, Any]:
        """Read what no operation shows: leadership, retention, keys, runs noted to begin."""

    @abc.abstractmethod
    async def nothing_is_open(self) -> None:
        """Fail unless all transactions are over."""

    async def look(self) -> Sight:
        """Look at everything, and see that what is counted is what is there."""
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
        """Make an answer comparable: no two runs of an operation give the same lease, but they give them in order."""
        built = msgspec.to_builtins(answer, str_keys=True)
        known = max(self.world.leases.values())
        fresh = {lease: f"lease {n}" for n, lease in enumerate(sorted(set(_leases(built, known))))}
        return _renamed(built, fresh)

    async def drain(self, stage: Stage, due: Sequence[UUID]) -> list[UUID]:
        """Let a worker run what is left, over the storage that was befallen; return its runs."""
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
"""The jobs that the worker ran."""


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


def _renamed(value: Any, fresh: dict[int, str]) -> Any:
    if isinstance(value, list):
        return [_renamed(each, fresh) for each in value]
    if isinstance(value, dict):
        return {key: fresh.get(each, each) if key == "lease" else _renamed(each, fresh) for key, each in value.items()}
    return value
