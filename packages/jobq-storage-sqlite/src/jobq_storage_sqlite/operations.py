"""Bulk operations, and the audit of what operators did."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from jobq_core.encoding import decode_or_show
from jobq_core.storage import Action, AuditEntry, Operation, OperationState, OperationStorage, decode_filter
from jobq_core.timestamps import to_datetime, to_optional_datetime
from jobq_storage_sqlite.columns import from_ids, text, to_id, to_optional_id
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.spans import AFTER_ALL_IDS
from jobq_storage_sqlite.transaction import Transaction


class Operations(StorageOnFile, OperationStorage):
    """Stores through the writer, and reads through the reader."""

    async def add_operation(self, operation: Operation) -> None:
        await self._write(partial(add_operation, operation=operation))

    async def operations(
        self, ids: Sequence[UUID] | None = None, *, running: bool = False, limit: int = 100
    ) -> list[Operation]:
        if ids is None:
            rows = await self._read("running_operations" if running else "newest_operations", limit=max(limit, 0))
        else:
            rows = await self._read("find_operations", ids=from_ids(ids)) if ids else []
        return [_to_operation(*row) for row in rows]

    async def save_operation(self, operation: Operation, *, seen: UUID | None) -> bool:
        return await self._write(partial(save_operation, operation=operation, seen=seen))

    async def cancel_operation(self, id: UUID) -> bool:
        return await self._write(partial(cancel_operation, id=id))

    async def record_audit(self, entries: Sequence[AuditEntry]) -> None:
        if entries:
            await self._write(partial(record_audit, entries=entries))

    async def audit(
        self, *, target: str | None = None, after: UUID | None = None, limit: int = 100
    ) -> list[AuditEntry]:
        name = "audit" if target is None else "audit_of"
        before = AFTER_ALL_IDS if after is None else after.bytes
        return [_to_entry(*row) for row in await self._read(name, target=target, before=before, limit=max(limit, 0))]


def add_operation(transaction: Transaction, operation: Operation) -> None:
    """Store an operation, unless it is stored."""
    transaction.run(
        "add_operation",
        operation.id.bytes,
        operation.action.value,
        text(operation.value),
        msgspec.json.encode(operation.filter).decode(),
        operation.before.bytes,
        text(operation.actor),
        transaction.now,
        operation.matched,
        operation.state.value,
        _optional_bytes(operation.cursor),
        operation.done,
        operation.changed,
        operation.refused,
    )


def save_operation(transaction: Transaction, operation: Operation, seen: UUID | None) -> bool:
    """Store the progress of an operation that no other process has worked on since; return whether it was stored."""
    saved = transaction.run(
        "save_operation",
        id=operation.id.bytes,
        cursor=_optional_bytes(operation.cursor),
        done=operation.done,
        changed=operation.changed,
        refused=operation.refused,
        state=operation.state.value,
        error=text(operation.error),
        now=transaction.now,
        seen=_optional_bytes(seen),
    )
    return saved.rowcount == 1


def cancel_operation(transaction: Transaction, id: UUID) -> bool:
    """End a RUNNING operation; return whether it was RUNNING."""
    return transaction.run("cancel_operation", transaction.now, id.bytes).rowcount == 1


def record_audit(transaction: Transaction, entries: Sequence[AuditEntry]) -> None:
    """Store entries of the audit that are not stored yet."""
    transaction.many(
        "record_audit",
        [
            (
                entry.id.bytes,
                transaction.now,
                text(entry.actor),
                text(entry.action),
                text(entry.target),
                None if entry.details is None else msgspec.json.encode(entry.details).decode(),
            )
            for entry in entries
        ],
    )


def _optional_bytes(id: UUID | None) -> bytes | None:
    return None if id is None else id.bytes


def _to_operation(
    id: bytes,
    action: str,
    value: str | None,
    filter: str,
    before: bytes,
    actor: str,
    created_at: int,
    matched: int | None,
    state: str,
    cursor: bytes | None,
    done: int,
    changed: int,
    refused: int,
    worked_at: int | None,
    finished_at: int | None,
    error: str | None,
) -> Operation:
    return Operation(
        id=to_id(id),
        action=Action(action),
        value=value,
        filter=decode_filter(filter, to_id(id)),
        before=to_id(before),
        actor=actor,
        created_at=to_datetime(created_at),
        matched=matched,
        state=OperationState(state),
        cursor=to_optional_id(cursor),
        done=done,
        changed=changed,
        refused=refused,
        worked_at=to_optional_datetime(worked_at),
        finished_at=to_optional_datetime(finished_at),
        error=error,
    )


def _to_entry(id: bytes, at: int, actor: str, action: str, target: str, details: str | None) -> AuditEntry:
    kept: Any = None if details is None else decode_or_show(details)
    return AuditEntry(id=to_id(id), at=to_datetime(at), actor=actor, action=action, target=target, details=kept)
