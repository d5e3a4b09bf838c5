"""Leases of running jobs: recording starts, checking them, recovering claims, and progress."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from jobq_core.memory.claiming import claimed_job
from jobq_core.memory.transaction import MemoryTransactions
from jobq_core.storage import PROGRESS_TOPIC, ClaimedJob, LeaseStatus, ProgressReport, WorkerStorage


class Leases(MemoryTransactions, WorkerStorage):
    """The operations of the facet of workers on running jobs."""

    async def mark_started(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[bool]:
        with self._transaction() as store:
            marked: list[bool] = []
            for job, lease in leases:
                row = store.held(job, lease)
                if row is None or row.worker != worker:
                    marked.append(False)
                else:
                    row.start_marked = True
                    marked.append(True)
            return marked

    async def check_leases(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[LeaseStatus]:
        with self._transaction() as store:
            statuses: list[LeaseStatus] = []
            for job, lease in leases:
                row = store.held(job, lease)
                held = row is not None and row.worker == worker
                statuses.append(LeaseStatus(True, row.request) if row is not None and held else LeaseStatus(False))
            return statuses

    async def recover_claims(self, worker: UUID, leases: Collection[int]) -> list[ClaimedJob]:
        with self._transaction() as store:
            now = store.clock.now()
            known = frozenset(leases)
            return [
                claimed_job(row, lease, now)
                for lease, row in store.running.items()
                if row.worker == worker and lease not in known
            ]

    async def progress(self, worker: UUID, reports: Sequence[ProgressReport]) -> list[bool]:
        with self._transaction() as store:
            stored: list[bool] = []
            for report in reports:
                row = store.held(report.id, report.lease)
                if row is not None:
                    row.set_progress(report.progress)
                    store.topics.add(PROGRESS_TOPIC)
                stored.append(row is not None)
            return stored
