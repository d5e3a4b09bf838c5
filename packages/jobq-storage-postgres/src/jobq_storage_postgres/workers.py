"""Registered workers."""

from __future__ import annotations

from uuid import UUID

import msgspec

from jobq_core.records import WorkerInfo, WorkerRecord, decode_stats, decode_versions
from jobq_core.storage import WAITING_TOPIC, Heartbeat, ReaderStorage, WorkerStorage
from jobq_storage_postgres.address import Address
from jobq_storage_postgres.binary import pack_float8, pack_int4, pack_text, texts
from jobq_storage_postgres.engine import Facet
from jobq_storage_postgres.heartbeat import PostgresHeartbeat


class Workers(Facet, WorkerStorage, ReaderStorage):
    """Registers workers, and lists them."""

    async def register(self, worker: WorkerInfo) -> None:
        params = (
            worker.id.bytes,
            pack_text(worker.name),
            pack_text(worker.host),
            pack_int4(worker.pid),
            texts(worker.queues),
            texts(worker.kinds),
            pack_int4(worker.concurrency),
            pack_float8(worker.lost_after),
            msgspec.json.encode(worker.versions),
        )
        await self._engine.fetch("register", *params)
        self._engine.notifier.notify([WAITING_TOPIC])

    def heartbeat(self, worker: WorkerInfo) -> Heartbeat:
        engine, settings = self._engine, self._engine.settings
        engine.pool.check_open()
        limit = min(settings.time_limit, max(1.0, worker.lost_after / 3))
        # libpq waits for 2 seconds or longer. A connection that hangs must leave time for another one.
        connecting = min(int(settings.address.conninfo["connect_timeout"]), max(2, round(limit)))
        address = Address({**settings.address.conninfo, "connect_timeout": connecting}, settings.address.password)
        return PostgresHeartbeat(address, engine.statements, worker.id, limit)

    async def deregister(self, worker: UUID) -> None:
        await self._engine.fetch("deregister", worker.bytes)

    async def workers(self) -> list[WorkerRecord]:
        rows = await self._engine.fetch("workers")
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
                    versions=decode_versions(versions),
                ),
                started_at=started_at,
                beat_at=beat_at,
                expires_at=expires_at,
                stats=decode_stats(stats),
            )
            for (
                worker, name, host, pid, queues, kinds, concurrency, lost_after, started_at, beat_at, expires_at, stats,
                versions,
            ) in rows
        ]  # fmt: skip
