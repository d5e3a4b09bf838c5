"""The facet of logs: what handlers logged."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from jobq_core.storage import LogPart, LogPlace, LogStorage, decode_lines, encode_lines
from jobq_core.timestamps import to_datetime
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.transaction import Transaction


class Logs(StorageOnFile, LogStorage):
    """Stores through the writer, and reads through the reader."""

    async def write_logs(self, parts: Sequence[LogPart]) -> None:
        if parts:
            await self._write(partial(write_logs, parts=parts))

    async def read_logs(
        self,
        job: UUID,
        *,
        attempt: int | None = None,
        after: LogPlace | None = None,
        before: LogPlace | None = None,
        limit: int = 100,
    ) -> list[LogPart]:
        (after_lease, after_part), (before_lease, before_part) = after or (-1, 0), before or (2**63 - 1, 0)
        rows = await self._read(
            "read_logs",
            id=job.bytes,
            attempt=attempt,
            after_lease=after_lease,
            after_part=after_part,
            before_lease=before_lease,
            before_part=before_part,
            limit=max(limit, 0),
        )
        return [
            LogPart(
                job=job,
                lease=lease,
                attempt=number,
                part=part,
                at=to_datetime(at),
                lines=decode_lines(lines, to_datetime(at)),
            )
            for lease, part, number, at, lines in reversed(rows)
        ]


def write_logs(transaction: Transaction, parts: Sequence[LogPart]) -> None:
    """Store parts of jobs that exist, unless they are stored."""
    transaction.many(
        "write_logs",
        [
            (part.lease, part.part, part.attempt, transaction.now, encode_lines(part.lines).decode(), part.job.bytes)
            for part in parts
        ],
    )
