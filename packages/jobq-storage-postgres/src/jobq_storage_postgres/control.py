"""The operators' facet of the storage: changing jobs, whatever their state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from jobq_core.states import FINISHED
from jobq_core.storage import Change, OperatorStorage, QueueOptions, QueueOwner, queue_topic
from jobq_storage_postgres.binary import pack_bool, pack_float8, pack_int2, pack_int8, pack_moment, pack_text, pack_uuid
from jobq_storage_postgres.changing import CHUNK, Operation, change
from jobq_storage_postgres.engine import Facet
from jobq_storage_postgres.programs import drive


class Control(Facet, OperatorStorage):
    """Aborts, disables, enables, retries and deletes jobs, and sets options of queues."""

    async def abort(self, ids: Sequence[UUID], *, connection: Any = None) -> list[Change]:
        if connection is not None:
            self._engine.pool.check_open()
            return await self._engine.caller_connections.abort(connection, ids)
        return await self._change("abort", ids)

    async def retry(self, ids: Sequence[UUID], *, connection: Any = None) -> list[Change]:
        if connection is not None:
            self._engine.pool.check_open()
            return await self._engine.caller_connections.retry(connection, ids)
        return await self._change("retry", ids)

    async def disable(self, ids: Sequence[UUID]) -> list[Change]:
        return await self._change("disable", ids)

    async def enable(self, ids: Sequence[UUID]) -> list[Change]:
        return await self._change("enable", ids)

    async def delete(self, ids: Sequence[UUID]) -> list[Change]:
        return await self._change("delete", ids)

    async def run_now(self, ids: Sequence[UUID]) -> list[Change]:
        return await self._change("reschedule", ids, None)

    async def reschedule(self, ids: Sequence[UUID], run_at: datetime) -> list[Change]:
        return await self._change("reschedule", ids, pack_moment(run_at))

    async def move(self, ids: Sequence[UUID], queue: str) -> list[Change]:
        return await self._change("move", ids, pack_text(queue))

    async def set_priority(self, ids: Sequence[UUID], priority: int) -> list[Change]:
        return await self._change("set_priority", ids, pack_int2(priority))

    async def abort_run(self, run_id: str, *, on_progress: Callable[[int], object] | None = None) -> list[Change]:
        changes: list[Change] = []
        after: UUID | None = None
        while True:
            rows = await self._engine.fetch(
                "unfinished_of_run",
                pack_text(run_id),
                None if after is None else pack_uuid(after),
                pack_int8(CHUNK),
            )
            if not rows:
                return changes
            after = rows[-1][0]
            changed = await self.abort([job_id for (job_id,) in rows])
            changes += [change for change in changed if change.before not in FINISHED and change.before is not None]
            if on_progress is not None:
                on_progress(len(changes))

    async def clear(self, queue: str, *, on_progress: Callable[[int], object] | None = None) -> int:
        # Jobs that are added meanwhile are kept.
        ((now,),) = await self._engine.fetch("now")
        removed = 0
        while True:
            rows = await self._engine.fetch("in_queue", pack_text(queue), pack_moment(now), pack_int8(CHUNK))
            if not rows:
                return removed
            changed = await self.delete(list({job_id for (job_id,) in rows}))
            removed += sum(change.before is not None for change in changed)
            if on_progress is not None:
                on_progress(removed)

    async def set_queue(self, queue: str, options: QueueOptions, owner: QueueOwner = "operator") -> None:
        paused = options.paused if owner == "operator" else None
        kept = options.retention
        if paused is None and kept is None:
            return
        seconds = (None, None, None) if kept is None else (kept.completed, kept.failed, kept.aborted)
        await self._engine.fetch(
            "set_queue",
            pack_text(queue),
            pack_text(owner),
            None if paused is None else pack_bool(paused),
            pack_bool(kept is not None),
            *(None if each is None else pack_float8(each) for each in seconds),
            None if options.actor is None else pack_text(options.actor),
        )
        if paused is False:
            self._engine.notifier.notify([queue_topic(queue)])

    async def _change(self, operation: Operation, ids: Sequence[UUID], *values: bytes | None) -> list[Change]:
        engine = self._engine
        topics: set[str] = set()
        try:
            program = change(engine.statements, operation, ids, topics, *values)
            return await drive(program, engine.database.fetch_all)
        finally:
            engine.notifier.notify(topics)
