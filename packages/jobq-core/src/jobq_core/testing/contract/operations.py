"""Operations: bulk operations are kept with their progress; the audit keeps what operators did."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from jobq_core.ids import new_id, new_ids
from jobq_core.states import JobState
from jobq_core.storage import (
    AUDIT_DAYS,
    Action,
    AuditEntry,
    JobFilter,
    Operation,
    OperationState,
    QueueOptions,
    QueueStorage,
)
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import case

LONG_AGO = datetime(2001, 2, 3, tzinfo=UTC)

FILTERS = [
    JobFilter(),
    JobFilter(
        queue="q",
        states=[JobState.FAILED, JobState.PENDING],
        kinds=("a", "b"),
        tags=("x", "é"),
        run_id="r",
        since=datetime(2026, 11, 30, 12, 0, 0, 123456, tzinfo=UTC),
        until=datetime(9999, 12, 31, tzinfo=UTC),
        error_type="ValueError",
        error="no 'such' file: 100%",
        argument=("n", {"a": [1, 2.5, None, True, "☃"], "b": 2**80}),
        worker=new_id(),
        parent=new_id(),
    ),
    JobFilter(argument=("n", None)),
]


def new_operation(**options: Any) -> Operation:
    """Return an operation to add: an abort of all jobs, unless options replace that."""
    defaults: dict[str, Any] = {
        "id": new_id(),
        "action": Action.ABORT,
        "value": None,
        "filter": JobFilter(),
        "before": new_id(),
        "actor": "kai@web1",
        "created_at": LONG_AGO,
    }
    return Operation(**defaults | options)


def new_entry(**options: Any) -> AuditEntry:
    """Return an entry of the audit: kai paused a queue, unless options replace that."""
    defaults: dict[str, Any] = {
        "id": new_id(),
        "at": LONG_AGO,
        "actor": "kai@web1",
        "action": "pause",
        "target": "mail",
    }
    return AuditEntry(**defaults | options)


class OperationsContract(ContractBase):
    """Operations, the audit, and who paused a queue."""

    # Operations

    async def test_an_operation_is_kept_as_it_was_made(self, storage: QueueStorage, other: QueueStorage) -> None:
        values = {Action.RESCHEDULE: "2026-12-01T08:00:00+00:00", Action.MOVE: "b", Action.PRIORITY: "-7"}
        for n, action in enumerate(Action):
            made = new_operation(
                action=action, value=values.get(action), filter=FILTERS[n % len(FILTERS)], matched=n or None
            )
            with case(action):
                before = await storage.now()
                await storage.add_operation(made)
                [kept] = await other.operations([made.id])
                assert before <= kept.created_at <= await storage.now()
                assert kept == replace(made, created_at=kept.created_at)

    async def test_adding_an_operation_again_changes_nothing(self, storage: QueueStorage, other: QueueStorage) -> None:
        made = new_operation()
        await storage.add_operation(made)
        await storage.save_operation(replace(made, done=5), seen=None)
        before = await storage.operations([made.id])
        await self.advance(storage, 10)
        await other.add_operation(made)
        assert await storage.operations([made.id]) == before

    async def test_operations_are_listed_newest_first(self, storage: QueueStorage, other: QueueStorage) -> None:
        assert await storage.operations() == []
        ids = new_ids(5)
        for n in (3, 0, 4, 1, 2):
            await storage.add_operation(new_operation(id=ids[n]))
        assert [operation.id for operation in await other.operations()] == ids[::-1]
        assert [operation.id for operation in await other.operations(limit=2)] == [ids[4], ids[3]]
        some = await other.operations([ids[1], new_id(), ids[3]])
        assert sorted(operation.id for operation in some) == [ids[1], ids[3]]
        assert await other.operations([]) == []

    async def test_progress_is_saved_while_the_operation_runs(self, storage: QueueStorage, other: QueueStorage) -> None:
        made = new_operation()
        await storage.add_operation(made)
        cursor = new_id()
        [kept] = await storage.operations([made.id])
        worked = replace(kept, cursor=cursor, done=500, changed=300, refused=2)
        before = await storage.now()
        # What an operation is for does not change.
        tampered = replace(worked, action=Action.DELETE, actor="eve", filter=JobFilter(queue="x"), created_at=LONG_AGO)
        assert await other.save_operation(tampered, seen=None)
        [saved] = await storage.operations([made.id])
        assert saved.worked_at is not None
        assert before <= saved.worked_at <= await storage.now()
        assert saved == replace(worked, worked_at=saved.worked_at)
        # The end.
        ended = replace(saved, done=501, state=OperationState.DONE, error="it could not be worse")
        assert await storage.save_operation(ended, seen=cursor)
        [done] = await other.operations([made.id])
        assert done.finished_at is not None
        assert saved.worked_at <= done.finished_at <= await storage.now()
        assert done == replace(ended, worked_at=done.worked_at, finished_at=done.finished_at)
        assert not await storage.save_operation(replace(done, done=502), seen=cursor)
        assert await other.operations([made.id]) == [done]

    async def test_of_two_processes_on_one_slice_one_saves_it(self, storage: QueueStorage, other: QueueStorage) -> None:
        made = new_operation()
        await storage.add_operation(made)
        one, two = new_ids(2)
        assert await storage.save_operation(replace(made, cursor=two, done=1), seen=None)
        assert not await other.save_operation(replace(made, cursor=one, done=2), seen=None)
        assert not await other.save_operation(replace(made, cursor=one, done=2), seen=one)
        [kept] = await storage.operations([made.id])
        assert (kept.cursor, kept.done) == (two, 1)
        assert await other.save_operation(replace(made, cursor=one, done=2), seen=two)
        assert not await storage.save_operation(new_operation(), seen=None)

    async def test_a_cancelled_operation_is_over(self, storage: QueueStorage, other: QueueStorage) -> None:
        made = new_operation()
        await storage.add_operation(made)
        assert await other.cancel_operation(made.id)
        [kept] = await storage.operations([made.id])
        assert kept.state is OperationState.CANCELLED
        assert kept.finished_at is not None
        assert not await storage.cancel_operation(made.id)
        assert await storage.operations([made.id]) == [kept]
        assert not await storage.cancel_operation(new_id())

    async def test_a_slice_that_ends_after_the_cancellation_is_counted(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        made = new_operation()
        await storage.add_operation(made)
        await other.cancel_operation(made.id)
        [cancelled] = await storage.operations([made.id])
        for ended, state in enumerate((OperationState.RUNNING, OperationState.DONE)):
            worked = replace(made, cursor=new_id(), done=500, changed=300 + ended, state=state)
            assert await storage.save_operation(worked, seen=cancelled.cursor)
            [kept] = await other.operations([made.id])
            counted = replace(cancelled, cursor=worked.cursor, done=500, changed=300 + ended, worked_at=kept.worked_at)
            assert kept == counted
            assert not await other.save_operation(replace(made, done=1), seen=None)
            cancelled = kept

    async def test_running_operations_are_listed_oldest_first_however_many_are_newer(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        ids = new_ids(5)
        for n in (3, 0, 4, 1, 2):
            await storage.add_operation(new_operation(id=ids[n]))
        for n in (1, 4):
            await storage.cancel_operation(ids[n])
        assert [operation.id for operation in await other.operations(running=True)] == [ids[0], ids[2], ids[3]]
        assert [operation.id for operation in await other.operations(running=True, limit=1)] == [ids[0]]

    async def test_operations_are_kept_until_they_are_over_and_for_90_days(self, storage: QueueStorage) -> None:
        running, over = new_operation(), new_operation()
        for operation in (running, over):
            await storage.add_operation(operation)
        await self.advance(storage, 100 * 86_400)
        await storage.cancel_operation(over.id)
        await self.advance(storage, (AUDIT_DAYS - 1) * 86_400)
        await storage.prune()
        assert len(await storage.operations()) == 2
        await self.advance(storage, 2 * 86_400)
        await storage.prune()
        assert [operation.id for operation in await storage.operations()] == [running.id]

    # The audit

    async def test_entries_of_the_audit_are_kept_newest_first(self, storage: QueueStorage, other: QueueStorage) -> None:
        assert await storage.audit() == []
        ids = new_ids(5)
        entries = [new_entry(id=id_, target=("mail", "pdf")[n % 2]) for n, id_ in enumerate(ids)]
        before = await storage.now()
        await storage.record_audit([entries[n] for n in (2, 0)])
        await storage.record_audit([entries[n] for n in (3, 4, 1)])
        await storage.record_audit([])
        kept = await other.audit()
        assert [entry.id for entry in kept] == ids[::-1]
        assert all(before <= entry.at <= datetime.max.replace(tzinfo=UTC) for entry in kept)
        assert [replace(entry, at=LONG_AGO) for entry in kept] == entries[::-1]
        assert [entry.id for entry in await other.audit(limit=2)] == [ids[4], ids[3]]
        assert [entry.id for entry in await other.audit(after=ids[3], limit=2)] == [ids[2], ids[1]]
        assert [entry.id for entry in await other.audit(target="pdf")] == [ids[3], ids[1]]
        assert [entry.id for entry in await other.audit(target="pdf", after=ids[3])] == [ids[1]]
        assert await other.audit(target="never") == []

    async def test_details_of_any_type_are_kept(self, storage: QueueStorage, other: QueueStorage) -> None:
        for details in (None, "text ☃", 7, 2.5, True, [1, None], {"before": {"a": 2**80}, "after": []}, "\0"):
            with case(repr(details)):
                entry = new_entry(details=details)
                await storage.record_audit([entry])
                [kept] = await other.audit(limit=1)
                assert (kept.id, kept.details) == (entry.id, details)

    async def test_an_entry_that_is_recorded_again_changes_nothing(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        entry = new_entry(details={"n": 1})
        await storage.record_audit([entry])
        before = await storage.audit()
        await self.advance(storage, 10)
        new = new_entry()
        await other.record_audit([replace(entry, actor="eve"), new])
        assert [kept.id for kept in await storage.audit()] == [new.id, entry.id]
        assert (await storage.audit())[1:] == before

    async def test_the_audit_is_kept_for_90_days(self, storage: QueueStorage) -> None:
        old, new = new_entry(), new_entry()
        await storage.record_audit([old])
        await self.advance(storage, (AUDIT_DAYS - 1) * 86_400)
        await storage.record_audit([new])
        await storage.prune()
        assert len(await storage.audit()) == 2
        await self.advance(storage, 2 * 86_400)
        await storage.prune()
        assert [entry.id for entry in await storage.audit()] == [new.id]

    # Who paused a queue

    async def test_who_paused_a_queue_is_told_until_it_is_resumed(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        await storage.set_queue("a", QueueOptions(paused=True, actor="kai@web1"))
        await storage.set_queue("b", QueueOptions(paused=True))
        assert [(queue.name, queue.paused_by) for queue in await other.queues()] == [("a", "kai@web1"), ("b", None)]
        # It is paused already, by the first.
        [first, _] = await storage.queues()
        await self.advance(storage, 10)
        await other.set_queue("a", QueueOptions(paused=True, actor="eve"))
        assert (await storage.queues())[0] == first
        for queue in ("a", "b"):
            await other.set_queue(queue, QueueOptions(paused=False, actor="kai@web1"))
        assert await storage.queues() == []
        await other.set_queue("a", QueueOptions(paused=True, actor="eve"))
        [again] = await storage.queues()
        assert again.paused_by == "eve"
        assert again.paused_at is not None
        assert first.paused_at is not None
        assert again.paused_at - first.paused_at >= timedelta(seconds=10)
