"""Bulk operations, and the audit of what operators did."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec
from msgspec.structs import replace

from jobq_core.memory.store import Store
from jobq_core.memory.transaction import MemoryTransactions
from jobq_core.storage import AUDIT_DAYS, AuditEntry, Operation, OperationState, OperationStorage
from jobq_core.timestamps import SECOND, to_datetime

_KEPT: Final = AUDIT_DAYS * 86_400 * SECOND


class Operations(MemoryTransactions, OperationStorage):
    """The facet of bulk operations and of the audit."""

    async def add_operation(self, operation: Operation) -> None:
        with self._transaction() as store:
            now = to_datetime(store.clock.now())
            store.operations.setdefault(operation.id, replace(operation, created_at=now))

    async def operations(
        self, ids: Sequence[UUID] | None = None, *, running: bool = False, limit: int = 100
    ) -> list[Operation]:
        with self._transaction() as store:
            if ids is not None:
                return [store.operations[each] for each in dict.fromkeys(ids) if each in store.operations]
            if running:
                found = (each for each in store.operations.values() if each.state is OperationState.RUNNING)
                return heapq.nsmallest(limit, found, key=lambda operation: operation.id)
            return heapq.nlargest(limit, store.operations.values(), key=lambda operation: operation.id)

    async def save_operation(self, operation: Operation, *, seen: UUID | None) -> bool:
        with self._transaction() as store:
            stored = store.operations.get(operation.id)
            if stored is None or stored.state is OperationState.DONE or stored.cursor != seen:
                return False
            now = to_datetime(store.clock.now())
            state = operation.state if stored.state is OperationState.RUNNING else stored.state
            store.operations[operation.id] = replace(
                stored,
                cursor=operation.cursor,
                done=operation.done,
                changed=operation.changed,
                refused=operation.refused,
                state=state,
                error=stored.error if operation.error is None else operation.error,
                worked_at=now,
                finished_at=None if state is OperationState.RUNNING else stored.finished_at or now,
            )
            return True

    async def cancel_operation(self, id: UUID) -> bool:
        with self._transaction() as store:
            stored = store.operations.get(id)
            if stored is None or stored.state is not OperationState.RUNNING:
                return False
            now = to_datetime(store.clock.now())
            store.operations[id] = replace(stored, state=OperationState.CANCELLED, finished_at=now)
            return True

    async def record_audit(self, entries: Sequence[AuditEntry]) -> None:
        with self._transaction() as store:
            now = to_datetime(store.clock.now())
            for entry in [_copy(entry) for entry in entries]:
                store.audit.setdefault(entry.id, replace(entry, at=now))

    async def audit(
        self, *, target: str | None = None, after: UUID | None = None, limit: int = 100
    ) -> list[AuditEntry]:
        with self._transaction() as store:
            wanted = (
                entry
                for entry in store.audit.values()
                if (target is None or entry.target == target) and (after is None or entry.id < after)
            )
            return [_copy(entry) for entry in heapq.nlargest(limit, wanted, key=lambda entry: entry.id)]


def _copy(entry: AuditEntry) -> AuditEntry:
    """Return an entry with details of its own: the caller may change theirs later."""
    return replace(entry, details=msgspec.json.decode(msgspec.json.encode(entry.details)))


def forget_old(store: Store, now: int) -> None:
    """Remove the entries of the audit, and the finished operations, that are kept no longer."""
    limit = to_datetime(now - _KEPT)
    store.audit = {key: entry for key, entry in store.audit.items() if entry.at > limit}
    store.operations = {
        key: operation
        for key, operation in store.operations.items()
        if operation.finished_at is None or operation.finished_at > limit
    }
