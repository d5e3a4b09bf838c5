"""Requests to workers: asked by one process, answered by another, and forgotten after an hour."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from jobq_core.ids import new_id
from jobq_core.records import WorkerInfo
from jobq_core.storage import REQUEST_SECONDS, REQUEST_TOPIC, QueueStorage, WorkerAction, WorkerRequest
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.contract.notifications import notified, silence
from jobq_core.testing.contract.workers import close, in_thread
from jobq_core.testing.helpers import register_worker

LONG_AGO = datetime(2001, 2, 3, tzinfo=UTC)


def new_request(worker: UUID, **options: Any) -> WorkerRequest:
    """Return a request for the stacks of a worker, unless options replace that."""
    defaults: dict[str, Any] = {
        "id": new_id(),
        "worker": worker,
        "action": WorkerAction.STACK,
        "job": None,
        "actor": "kai@web1",
        "asked_at": LONG_AGO,
    }
    return WorkerRequest(**defaults | options)


class RequestsContract(ContractBase):
    """`ask_worker`, `worker_requests`, `answer_request` and `get_requests`."""

    async def test_a_request_is_kept_until_it_is_answered(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        drain = new_request(worker.id, action=WorkerAction.DRAIN, actor="é")
        stack = new_request(worker.id, job=new_id())
        before = await storage.now()
        assert await storage.ask_worker(drain)
        await self.advance(storage, 1)
        assert await storage.ask_worker(stack)
        now = await storage.now()
        asked = await other.worker_requests(worker.id)
        assert all(before <= request.asked_at <= now for request in asked)
        assert [replace(request, asked_at=LONG_AGO) for request in asked] == [drain, stack]
        assert await storage.get_requests([stack.id, new_id(), drain.id]) == [asked[1], None, asked[0]]
        text = "Thread 1 ☃\n  File …" * 10_000
        assert await other.answer_request(stack.id, text)
        assert await other.worker_requests(worker.id) == [asked[0]]
        [answered] = await storage.get_requests([stack.id])
        assert answered is not None
        assert answered.answered_at is not None
        assert answered == replace(asked[1], answer=text, answered_at=answered.answered_at)
        assert now <= answered.answered_at <= await storage.now()
        assert await other.answer_request(stack.id, text)
        assert await storage.get_requests([]) == []

    async def test_an_empty_answer_is_an_answer(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        request = new_request(worker.id)
        await storage.ask_worker(request)
        assert await storage.answer_request(request.id, "")
        assert await storage.worker_requests(worker.id) == []

    async def test_each_worker_has_its_own_requests(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        second = await register_worker(storage)
        one, two = new_request(worker.id), new_request(second.id)
        for request in (one, two):
            await storage.ask_worker(request)
        assert [request.id for request in await storage.worker_requests(worker.id)] == [one.id]
        assert [request.id for request in await storage.worker_requests(second.id)] == [two.id]
        assert await storage.worker_requests(new_id()) == []

    async def test_a_worker_that_is_not_registered_cannot_be_asked(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        request = new_request(new_id())
        assert not await storage.ask_worker(request)
        assert await storage.get_requests([request.id]) == [None]
        assert not await storage.answer_request(request.id, "nobody")

    async def test_a_request_that_is_sent_again_changes_nothing(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        request = new_request(worker.id)
        await storage.ask_worker(request)
        await storage.answer_request(request.id, "done")
        before = await storage.get_requests([request.id])
        assert await other.ask_worker(request)
        assert await storage.get_requests([request.id]) == before
        assert await storage.worker_requests(worker.id) == []

    async def test_a_request_notifies_the_worker(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        async with other.subscribe([REQUEST_TOPIC]) as there:
            await silence(there)
            await storage.ask_worker(new_request(worker.id))
            await notified(there, REQUEST_TOPIC)

    async def test_a_new_registration_of_the_worker_keeps_its_requests(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        request = new_request(worker.id)
        await storage.ask_worker(request)
        await storage.register(worker)
        assert [each.id for each in await storage.worker_requests(worker.id)] == [request.id]

    async def test_the_heartbeat_reads_and_answers_requests_while_the_event_loop_is_blocked(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        second = await register_worker(storage)
        drain = new_request(worker.id, action=WorkerAction.DRAIN)
        stack, other = new_request(worker.id, job=new_id()), new_request(second.id)
        for request in (drain, stack, other):
            await storage.ask_worker(request)
            await self.advance(storage, 1)
        heartbeat = storage.heartbeat(worker)
        try:
            asked = in_thread(heartbeat.requests)
            assert asked == await storage.worker_requests(worker.id)
            assert [request.id for request in asked] == [drain.id, stack.id]
            assert in_thread(lambda: heartbeat.answer(stack.id, "File …")) is True
            assert in_thread(lambda: heartbeat.answer(new_id(), "nobody")) is False
            assert [request.id for request in in_thread(heartbeat.requests)] == [drain.id]
        finally:
            close(heartbeat)
        [answered] = await storage.get_requests([stack.id])
        assert answered is not None
        assert (answered.answer, answered.answered_at is None) == ("File …", False)

    async def test_requests_are_removed_with_their_worker(self, storage: QueueStorage) -> None:
        stays, goes, lost = [await register_worker(storage, lost_after=seconds) for seconds in (600.0, 600.0, 5.0)]
        requests = [new_request(each.id) for each in (stays, goes, lost)]
        for request in requests:
            await storage.ask_worker(request)
        await storage.deregister(goes.id)
        await self.advance(storage, 10)
        await storage.rescue()
        await storage.prune()
        kept = await storage.get_requests([request.id for request in requests])
        assert [request and request.id for request in kept] == [requests[0].id, None, None]

    async def test_requests_are_removed_after_an_hour(self, storage: QueueStorage) -> None:
        worker = await register_worker(storage, lost_after=1e6)
        old, new = new_request(worker.id), new_request(worker.id)
        await storage.ask_worker(old)
        await self.advance(storage, REQUEST_SECONDS - 60)
        await storage.ask_worker(new)
        await storage.prune()
        assert len(await storage.worker_requests(worker.id)) == 2
        await self.advance(storage, 120)
        await storage.prune()
        assert [request.id for request in await storage.worker_requests(worker.id)] == [new.id]
        assert not await storage.answer_request(old.id, "late")
