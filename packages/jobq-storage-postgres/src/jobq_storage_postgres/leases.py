"""The leases of running jobs: marking that a run started, checking leases, recovering claims, reporting progress."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

import msgspec

from jobq_core.errors import StorageUnavailableError
from jobq_core.states import StopRequest
from jobq_core.storage import PROGRESS_TOPIC, ClaimedJob, LeaseStatus, ProgressReport, WorkerStorage
from jobq_storage_postgres.binary import float8s, int8s, jsons, texts, uuids
from jobq_storage_postgres.engine import Facet
from jobq_storage_postgres.protocol import Step
from jobq_storage_postgres.settle_and_claim import claimed_job

_sleep = asyncio.sleep
_WAITS: Final = (0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.3)
"""Seconds before `mark_started` looks again at rows that another transaction holds: one second in all."""


class Leases(Facet, WorkerStorage):
    """What a worker does about the jobs that it runs."""

    async def mark_started(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[bool]:
        if not leases:
            return []
        marked: set[tuple[UUID, int]] = set()
        left = set(leases)
        for wait in _WAITS:
            runs = sorted((job_id.bytes, lease) for job_id, lease in left)
            rows = await self._engine.fetch(
                "mark_started", worker.bytes, uuids([job_id for job_id, _ in runs]), int8s([lease for _, lease in runs])
            )
            marked.update((job_id, lease) for job_id, lease, busy in rows if not busy)
            left = {(job_id, lease) for job_id, lease, busy in rows if busy}
            if not left:
                return [lease in marked for lease in leases]
            await _sleep(wait)
        raise StorageUnavailableError("another transaction holds the row of a job that is about to start")

    async def check_leases(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[LeaseStatus]:
        if not leases:
            return []
        rows = await self._engine.fetch(
            "check_leases",
            worker.bytes,
            uuids([job_id.bytes for job_id, _ in leases]),
            int8s([lease for _, lease in leases]),
        )
        found = {
            (job_id, lease): LeaseStatus(True, None if request is None else StopRequest(request))
            for job_id, lease, request in rows
        }
        lost = LeaseStatus(False)
        return [found.get(lease, lost) for lease in leases]

    async def recover_claims(self, worker: UUID, leases: Collection[int]) -> list[ClaimedJob]:
        step: Step = (self._engine.statements["recover_claims"], (worker.bytes, int8s(list(leases))))
        return await self._engine.database.run([step], lambda used, results: used.load(results[0], claimed_job))

    async def progress(self, worker: UUID, reports: Sequence[ProgressReport]) -> list[bool]:
        if not reports:
            return []
        # Of two reports about one run, the later one counts.
        last = {(report.id.bytes, report.lease): report.progress for report in reports}
        keys = sorted(last)
        latest = [last[key] for key in keys]
        rows = await self._engine.fetch(
            "progress",
            uuids([job_id for job_id, _ in keys]),
            int8s([lease for _, lease in keys]),
            float8s([progress.percent for progress in latest]),
            texts([progress.message for progress in latest]),
            jsons([None if p.details is None else msgspec.json.encode(p.details) for p in latest]),
        )
        stored = set(rows)
        if stored:
            self._engine.notifier.notify([PROGRESS_TOPIC])
        return [(report.id, report.lease) in stored for report in reports]
