"""The facet of logs: what handlers logged."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from jobq_core.storage import LogPart, LogPlace, LogStorage, decode_lines, encode_lines
from jobq_storage_postgres.binary import int4s, int8s, jsons, pack_int4, pack_int8, pack_optional, pack_uuid, uuids
from jobq_storage_postgres.engine import Facet


class Logs(Facet, LogStorage):
    """Stores and reads the logs of jobs."""

    async def write_logs(self, parts: Sequence[LogPart]) -> None:
        if not parts:
            return
        await self._engine.fetch(
            "write_logs",
            uuids([part.job.bytes for part in parts]),
            int8s([part.lease for part in parts]),
            int4s([part.part for part in parts]),
            int4s([part.attempt for part in parts]),
            jsons([encode_lines(part.lines) for part in parts]),
        )

    async def read_logs(
        self,
        job: UUID,
        *,
        attempt: int | None = None,
        after: LogPlace | None = None,
        before: LogPlace | None = None,
        limit: int = 100,
    ) -> list[LogPart]:
        (after_lease, after_part), (before_lease, before_part) = after or (None, None), before or (None, None)
        rows = await self._engine.fetch(
            "read_logs",
            pack_uuid(job),
            pack_optional(pack_int4, attempt),
            pack_optional(pack_int8, after_lease),
            pack_optional(pack_int4, after_part),
            pack_optional(pack_int8, before_lease),
            pack_optional(pack_int4, before_part),
            pack_int8(max(limit, 0)),
        )
        return [
            LogPart(job=job, lease=lease, attempt=number, part=part, at=at, lines=decode_lines(lines, at))
            for lease, part, number, at, lines in reversed(rows)
        ]
