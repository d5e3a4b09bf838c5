"""Requests to workers, and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from msgspec.structs import replace

from jobq_core.memory.store import Store
from jobq_core.memory.transaction import MemoryTransactions
from jobq_core.storage import REQUEST_SECONDS, REQUEST_TOPIC, WorkerRequest, WorkerRequestStorage
from jobq_core.timestamps import SECOND, to_datetime

_KEPT: Final = round(REQUEST_SECONDS * SECOND)


class Requests(MemoryTransactions, WorkerRequestStorage):
    """The facet of requests to workers."""

    async def ask_worker(self, request: WorkerRequest) -> bool:
        with self._transaction() as store:
            if request.worker not in store.workers:
                return False
            if request.id not in store.requests:
                now = to_datetime(store.clock.now())
                store.requests[request.id] = replace(request, asked_at=now, answered_at=None, answer=None)
                store.topics.add(REQUEST_TOPIC)
            return True

    async def worker_requests(self, worker: UUID) -> list[WorkerRequest]:
        with self._transaction() as store:
            return open_requests(store, worker)

    async def answer_request(self, id: UUID, answer: str) -> bool:
        with self._transaction() as store:
            return store_answer(store, id, answer)

    async def get_requests(self, ids: Sequence[UUID]) -> list[WorkerRequest | None]:
        with self._transaction() as store:
            return [store.requests.get(each) for each in ids]


def open_requests(store: Store, worker: UUID) -> list[WorkerRequest]:
    """Return the requests to a worker that it has not answered, oldest first."""
    asked = [each for each in store.requests.values() if each.worker == worker and each.answer is None]
    return sorted(asked, key=lambda request: (request.asked_at, request.id))


def store_answer(store: Store, id: UUID, answer: str) -> bool:
    """Store the answer to a request; return whether the request exists."""
    request = store.requests.get(id)
    if request is None:
        return False
    store.requests[id] = replace(request, answer=answer, answered_at=to_datetime(store.clock.now()))
    return True


def forget_requests(store: Store, now: int) -> None:
    """Remove the requests that are an hour old, and those to workers that are not registered any more."""
    limit = to_datetime(now - _KEPT)
    store.requests = {
        key: request
        for key, request in store.requests.items()
        if request.asked_at > limit and request.worker in store.workers
    }
