"""The facet of bulk operations and of the audit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from jobq_core.encoding import decode_or_show
from jobq_core.storage import Action, AuditEntry, Operation, OperationState, OperationStorage, decode_filter
from jobq_storage_postgres.binary import jsons, pack_int8, pack_optional, pack_text, pack_uuid, texts, uuids
from jobq_storage_postgres.engine import Facet


class Operations(Facet, OperationStorage):
    """Keeps bulk operations with their progress, and the audit."""

    async def add_operation(self, operation: Operation) -> None:
        await self._engine.fetch(
            "add_operation",
            pack_uuid(operation.id),
            pack_text(operation.action.value),
            pack_optional(pack_text, operation.value),
            msgspec.json.encode(operation.filter),
            pack_uuid(operation.before),
            pack_text(operation.actor),
            pack_optional(pack_int8, operation.matched),
            pack_text(operation.state.value),
            pack_optional(pack_uuid, operation.cursor),
            *map(pack_int8, (operation.done, operation.changed, operation.refused)),
        )

    async def operations(
        self, ids: Sequence[UUID] | None = None, *, running: bool = False, limit: int = 100
    ) -> list[Operation]:
        if ids is None:
            name = "running_operations" if running else "newest_operations"
            rows = await self._engine.fetch(name, pack_int8(max(limit, 0)))
        else:
            rows = await self._engine.fetch("operations", uuids([each.bytes for each in ids])) if ids else []
        return [_to_operation(row) for row in rows]

    async def save_operation(self, operation: Operation, *, seen: UUID | None) -> bool:
        saved = await self._engine.fetch(
            "save_operation",
            pack_uuid(operation.id),
            pack_optional(pack_uuid, seen),
            pack_optional(pack_uuid, operation.cursor),
            *map(pack_int8, (operation.done, operation.changed, operation.refused)),
            pack_text(operation.state.value),
            pack_optional(pack_text, operation.error),
        )
        return bool(saved)

    async def cancel_operation(self, id: UUID) -> bool:
        return bool(await self._engine.fetch("cancel_operation", pack_uuid(id)))

    async def record_audit(self, entries: Sequence[AuditEntry]) -> None:
        if not entries:
            return
        await self._engine.fetch(
            "record_audit",
            uuids([entry.id.bytes for entry in entries]),
            *(texts([getattr(entry, column) for entry in entries]) for column in ("actor", "action", "target")),
            jsons([None if entry.details is None else msgspec.json.encode(entry.details) for entry in entries]),
        )

    async def audit(
        self, *, target: str | None = None, after: UUID | None = None, limit: int = 100
    ) -> list[AuditEntry]:
        rows = await self._engine.fetch(
            "audit", pack_optional(pack_text, target), pack_optional(pack_uuid, after), pack_int8(max(limit, 0))
        )
        return [
            AuditEntry(
                id=id_,
                at=at,
                actor=actor,
                action=action,
                target=about,
                details=None if details is None else decode_or_show(details),
            )
            for id_, at, actor, action, about, details in rows
        ]


def _to_operation(row: Sequence[Any]) -> Operation:
    (
        id_, action, value, filter_, before, actor, created_at, matched, state, cursor, done, changed, refused,
        worked_at, finished_at, error,
    ) = row  # fmt: skip
    return Operation(
        id=id_,
        action=Action(action),
        value=value,
        filter=decode_filter(filter_, id_),
        before=before,
        actor=actor,
        created_at=created_at,
        matched=matched,
        state=OperationState(state),
        cursor=cursor,
        done=done,
        changed=changed,
        refused=refused,
        worked_at=worked_at,
        finished_at=finished_at,
        error=error,
    )
