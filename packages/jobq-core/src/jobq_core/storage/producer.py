"""The facet of producers: adding jobs."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from msgspec import Struct

from jobq_core.secret import show_without
from jobq_core.timestamps import When


class NewJob(Struct, frozen=True, kw_only=True, gc=False):
    """A job to add, with a field for each of its options.

    arguments: JSON as UTF-8 bytes, checked by `jobq_core.encoding`.
    priority: from -100 to 100, higher first.
    timeout: seconds that one run may take; None for no limit.
    backoff: the JSON of a Backoff, or None.
    meta: a JSON object as UTF-8 bytes, or None: headers that travel with the job, such as a trace context, and what
        jobq keeps beside them (see `jobq_core.masking` and `jobq_core.parents`).
    gated: whether the job waits for `KeeperStorage.admit` each time that it would become PENDING.
    followed: whether the end of the job is kept for `KeeperStorage.resolve`.
    follow_up: JSON as UTF-8 bytes, or None: what is to follow if the job fails. Each time that it becomes FAILED, its
        end is kept for `resolve`, with this.
    """

    id: UUID
    queue: str
    kind: str
    arguments: bytes
    priority: int = 0
    run_at: When | None = None
    deadline: When | None = None
    timeout: float | None = None
    max_attempts: int = 10
    backoff: bytes | None = None
    unique_key: str | None = None
    run_id: str | None = None
    tags: tuple[str, ...] = ()
    fingerprint: bytes | None = None
    meta: bytes | None = None
    gated: bool = False
    followed: bool = False
    follow_up: bytes | None = None

    def __repr__(self) -> str:
        return show_without(self, "arguments", "fingerprint", "meta", "follow_up")


class Added(Struct, frozen=True, gc=False):
    """The answer to one NewJob: the id of the job that now stands for it, and whether this call created that job."""

    id: UUID
    created: bool


class SyncProducer(abc.ABC):
    """Adds jobs from threads, without an event loop: what `ProducerStorage.add` does for the common case.

    One thread at a time calls it.
    """

    @abc.abstractmethod
    def add(self, jobs: Sequence[NewJob], *, timeout: float) -> list[Added] | None:
        """Store jobs without unique keys as `ProducerStorage.add` does, or return None if that must add them.

        None says that nothing was stored. After any error, `ProducerStorage.add` may be called with the same jobs, as
        it recognizes those that were stored. Raises StorageUnavailableError after `timeout` seconds.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """End its connections. Called before the storage is closed."""


class ProducerStorage(abc.ABC):
    """What a producer does with a storage: it adds jobs."""

    @abc.abstractmethod
    async def add(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Added]:
        """Store jobs, all or none. A job whose `run_at` lies ahead becomes SCHEDULED, a gated one BLOCKED with the
        reason GATED, any other PENDING, in the given order.

        A job whose id exists is not changed, and is answered with created=False. So `add` can be repeated as long as
        the job is kept; after the job was deleted or pruned, the same `add` stores it again. A job whose (queue,
        unique_key) belongs to an unfinished job, of this batch too, is not stored either: its answer is
        created=False with the id of that job.

        A key that an open transaction of another session holds is waited for, one second at most. Raises
        UniqueKeyBusyError, and stores none of the jobs, if the key is still held then.

        connection: an open connection of the caller, in whose transaction the jobs are added (see this package).
        """

    def sync_producer(self) -> SyncProducer | None:
        """Return what adds jobs from threads to this open storage, quicker than an event loop of another thread would;
        None if the storage has nothing quicker (the default).
        """
        return None
