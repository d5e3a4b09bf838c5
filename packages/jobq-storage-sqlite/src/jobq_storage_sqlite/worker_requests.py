"""Requests to workers, and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from jobq_core.storage import REQUEST_TOPIC, WorkerAction, WorkerRequest, WorkerRequestStorage
from jobq_core.timestamps import to_datetime, to_optional_datetime
from jobq_storage_sqlite.columns import from_ids, text, to_id, to_optional_id
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.transaction import Transaction


class WorkerRequests(StorageOnFile, WorkerRequestStorage):
    """Stores through the writer, and reads through the reader."""

    async def ask_worker(self, request: WorkerRequest) -> bool:
        return await self._write(partial(ask_worker, request=request))

    async def worker_requests(self, worker: UUID) -> list[WorkerRequest]:
        return [_to_request(row) for row in await self._read("worker_requests", worker=worker.bytes)]

    async def answer_request(self, id: UUID, answer: str) -> bool:
        return await self._write(partial(answer_request, id=id, answer=answer))

    async def get_requests(self, ids: Sequence[UUID]) -> list[WorkerRequest | None]:
        rows = await self._read("get_requests", ids=from_ids(ids)) if ids else []
        found = {request.id: request for request in map(_to_request, rows)}
        return [found.get(each) for each in ids]


def ask_worker(transaction: Transaction, request: WorkerRequest) -> bool:
    """Store a request to a registered worker; return whether it is registered."""
    if transaction.one("is_registered", request.worker.bytes) is None:
        return False
    job = None if request.job is None else request.job.bytes
    columns = (request.id.bytes, request.worker.bytes, request.action.value, job, text(request.actor), transaction.now)
    transaction.run("ask_worker", *columns)
    transaction.topics.add(REQUEST_TOPIC)
    return True


def open_requests(transaction: Transaction, worker: UUID) -> list[WorkerRequest]:
    """Return the requests to a worker that it has not answered, oldest first."""
    return [_to_request(row) for row in transaction.all("worker_requests", worker=worker.bytes)]


def answer_request(transaction: Transaction, id: UUID, answer: str) -> bool:
    """Store the answer to a request; return whether the request exists."""
    return transaction.run("answer_request", transaction.now, text(answer), id.bytes).rowcount == 1


def _to_request(row: Any) -> WorkerRequest:
    request_id, worker, action, job, actor, asked_at, answered_at, answer = row
    return WorkerRequest(
        id=to_id(request_id),
        worker=to_id(worker),
        action=WorkerAction(action),
        job=to_optional_id(job),
        actor=actor,
        asked_at=to_datetime(asked_at),
        answered_at=to_optional_datetime(answered_at),
        answer=answer,
    )
