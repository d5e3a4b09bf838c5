"""The readers' and the keeper's facets of the storage: how many jobs wait and run."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from jobq_core.states import JobState
from jobq_core.storage import (
    COUNTED,
    SAMPLE_SECONDS,
    SAMPLE_SHARE,
    Depth,
    DepthPoint,
    KeeperStorage,
    ReaderStorage,
)
from jobq_core.storage.statistics import STEPS, check_step
from jobq_storage_postgres.binary import (
    pack_bool,
    pack_float8,
    pack_int4,
    pack_int8,
    pack_moment,
    pack_optional,
    pack_text,
    pack_uuid,
)
from jobq_storage_postgres.engine import Facet


class Depths(Facet, ReaderStorage, KeeperStorage):
    """Counts jobs in statements that read few of them, and keeps samples of the counts."""

    async def depths(self, queue: str | None = None) -> list[Depth]:
        rows = await self._engine.fetch("depths", pack_optional(pack_text, queue), pack_int8(COUNTED))
        return [
            Depth(queue=name, state=JobState(state), jobs=jobs, oldest=oldest, at=at)
            for name, state, jobs, oldest, at in rows
        ]

    async def depth_history(
        self,
        queue: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        step: int = 60,
        together: bool = False,
    ) -> list[DepthPoint]:
        rows = await self._engine.fetch(
            "depth_history",
            pack_optional(pack_text, queue),
            pack_optional(pack_moment, since),
            pack_optional(pack_moment, until),
            pack_int4(check_step(step)),
            pack_int4(STEPS[step]),
            pack_bool(together),
        )
        return [
            DepthPoint(at=at, queue=name, state=JobState(state), jobs=jobs, oldest_seconds=oldest)
            for at, name, state, jobs, oldest in rows
        ]

    async def jobs_ahead(self, id: UUID, *, limit: int = 100_000) -> int | None:
        rows = await self._engine.fetch("jobs_ahead", pack_uuid(id), pack_int8(limit))
        return min(rows[0][0], limit) if rows else None

    async def overdue(self, seconds: float, *, limit: int = 1000) -> int:
        ((jobs,),) = await self._engine.fetch("count_overdue", pack_float8(seconds), pack_int8(limit))
        return int(jobs)

    async def sample_depths(self) -> float:
        ((seconds,),) = await self._engine.fetch(
            "sample_depths", pack_float8(SAMPLE_SECONDS), pack_float8(float(SAMPLE_SHARE))
        )
        due_in: float = seconds
        return due_in
