"""The facet of requests to workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from jobq_core.storage import REQUEST_TOPIC, WorkerAction, WorkerRequest, WorkerRequestStorage
from jobq_storage_postgres.binary import pack_optional, pack_text, pack_uuid, uuids
from jobq_storage_postgres.engine import Facet


class Requests(Facet, WorkerRequestStorage):
    """Passes requests to workers, and their answers back."""

    async def ask_worker(self, request: WorkerRequest) -> bool:
        ((registered, new),) = await self._engine.fetch(
            "ask_worker",
            pack_uuid(request.id),
            pack_uuid(request.worker),
            pack_text(request.action.value),
            pack_optional(pack_uuid, request.job),
            pack_text(request.actor),
        )
        if new:
            self._engine.notifier.notify([REQUEST_TOPIC])
        return bool(registered)

    async def worker_requests(self, worker: UUID) -> list[WorkerRequest]:
        return [to_request(row) for row in await self._engine.fetch("worker_requests", pack_uuid(worker))]

    async def answer_request(self, id: UUID, answer: str) -> bool:
        return bool(await self._engine.fetch("answer_request", pack_uuid(id), pack_text(answer)))

    async def get_requests(self, ids: Sequence[UUID]) -> list[WorkerRequest | None]:
        if not ids:
            return []
        rows = await self._engine.fetch("get_requests", uuids([each.bytes for each in ids]))
        found = {row[0]: to_request(row) for row in rows}
        return [found.get(each) for each in ids]


def to_request(row: Sequence[Any]) -> WorkerRequest:
    """Return the request of a row."""
    id_, worker, action, job, actor, asked_at, answered_at, answer = row
    return WorkerRequest(
        id=id_,
        worker=worker,
        action=WorkerAction(action),
        job=job,
        actor=actor,
        asked_at=asked_at,
        answered_at=answered_at,
        answer=answer,
    )
