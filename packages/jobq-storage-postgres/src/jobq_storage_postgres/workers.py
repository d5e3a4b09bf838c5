"""Registered workers, and which of them does the maintenance."""

from __future__ import annotations

from uuid import UUID

from jobq_core.records import WorkerInfo, WorkerRecord, decode_stats
from jobq_core.storage import UNKNOWN_KIND, Leadership, queue_topic
from jobq_storage_postgres.binary import pack_float8, pack_int4, pack_text, texts
from jobq_storage_postgres.database import Database
from jobq_storage_postgres.notifier import Ring
from jobq_storage_postgres.sql import Statements


class Workers:
    """Registers workers and lends out the lease on maintenance."""

    def __init__(self, database: Database, statements: Statements, ring: Ring) -> None:
        self._database = database
        self._statements = statements
        self._ring = ring

    async def register(self, worker: WorkerInfo) -> None:
        """See `QueueStorage.register`."""
        queues, kinds = texts(worker.queues), texts(worker.kinds)
        _, freed = await self._database.fetch_all(
            [
                (
                    self._statements["register"],
                    (
                        worker.id.bytes,
                        pack_text(worker.name),
                        pack_text(worker.host),
                        pack_int4(worker.pid),
                        queues,
                        kinds,
                        pack_int4(worker.concurrency),
                        pack_float8(worker.lost_after),
                    ),
                ),
                (self._statements["unblock"], (queues, kinds, pack_text(UNKNOWN_KIND))),
            ]
        )
        self._ring([queue_topic(queue) for (queue,) in freed])

    async def deregister(self, worker: UUID) -> None:
        """See `QueueStorage.deregister`."""
        await self._database.fetch(self._statements["deregister"], (worker.bytes,))

    async def all(self) -> list[WorkerRecord]:
        """See `QueueStorage.workers`."""
        rows = await self._database.fetch(self._statements["workers"])
        return [
            WorkerRecord(
                info=WorkerInfo(
                    id=worker,
                    name=name,
                    host=host,
                    pid=pid,
                    queues=tuple(queues),
                    kinds=tuple(kinds),
                    concurrency=concurrency,
                    lost_after=lost_after,
                ),
                started_at=started_at,
                beat_at=beat_at,
                expires_at=expires_at,
                stats=decode_stats(stats),
            )
            for (
                worker, name, host, pid, queues, kinds, concurrency, lost_after, started_at, beat_at, expires_at, stats,
            ) in rows
        ]  # fmt: skip

    async def lead(self, worker: UUID, term: float) -> Leadership:
        """See `QueueStorage.lead`."""
        ((leads, expires_in),) = await self._database.fetch(self._statements["lead"], (worker.bytes, pack_float8(term)))
        return Leadership(leads, expires_in)

    async def resign(self, worker: UUID) -> None:
        """See `QueueStorage.resign`."""
        await self._database.fetch(self._statements["resign"], (worker.bytes,))
