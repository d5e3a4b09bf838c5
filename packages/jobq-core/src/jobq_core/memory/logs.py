"""The logs of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from msgspec.structs import replace

from jobq_core.memory.transaction import MemoryTransactions
from jobq_core.storage import LogPart, LogPlace, LogStorage
from jobq_core.timestamps import to_datetime


class Logs(MemoryTransactions, LogStorage):
    """The facet of logs. A row has the parts of its job, by their places."""

    async def write_logs(self, parts: Sequence[LogPart]) -> None:
        with self._transaction() as store:
            now = to_datetime(store.clock.now())
            for part in parts:
                row = store.jobs.get(part.job)
                if row is None:
                    continue
                if row.logs is None:
                    row.logs = {}
                row.logs.setdefault(part.place, replace(part, at=now))

    async def read_logs(
        self,
        job: UUID,
        *,
        attempt: int | None = None,
        after: LogPlace | None = None,
        before: LogPlace | None = None,
        limit: int = 100,
    ) -> list[LogPart]:
        with self._transaction() as store:
            row = store.jobs.get(job)
            found = [
                part
                for place, part in sorted(({} if row is None else row.logs or {}).items())
                if (attempt is None or part.attempt == attempt)
                and (after is None or place > after)
                and (before is None or place < before)
            ]
            return found[-limit:] if limit > 0 else []
