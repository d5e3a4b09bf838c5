"""Settling and claiming: the path that every job takes, in one round trip and one commit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg.pq.abc import PGresult

from jobq_core.encoding import decode
from jobq_core.states import Ending, JobState, StopRequest
from jobq_core.storage import (
    FINISHED_TOPIC,
    PROGRESS_TOPIC,
    WAITING_TOPIC,
    Claim,
    ClaimedJob,
    LeaseStatus,
    ProgressReport,
    SettleAndClaimResult,
    Settlement,
    queue_topic,
)
from jobq_storage_postgres.binary import float8s, int4s, int8s, jsons, moments, pack_int4, texts, uuids
from jobq_storage_postgres.connection import Link
from jobq_storage_postgres.database import Database
from jobq_storage_postgres.notifier import Ring
from jobq_storage_postgres.protocol import Step
from jobq_storage_postgres.reading import to_tags
from jobq_storage_postgres.sql import Statements
from jobq_storage_postgres.watermarks import Marks

_PENDING = JobState.PENDING
_TIMED = (JobState.SCHEDULED, JobState.BLOCKED)


class HotPath:
    """`settle_and_claim` and what else concerns running jobs."""

    def __init__(self, database: Database, statements: Statements, marks: Marks, ring: Ring) -> None:
        self._database = database
        self._statements = statements
        self._marks = marks
        self._ring = ring

    async def settle_and_claim(
        self, worker: UUID, settlements: Sequence[Settlement], claim: Claim | None
    ) -> SettleAndClaimResult:
        """See `QueueStorage.settle_and_claim`."""
        if claim is not None and (claim.limit <= 0 or not claim.queues):
            claim = None
        batch = _Batch(settlements)
        steps: list[Step] = []
        if batch.completed and batch.others:
            steps.append((self._statements["lock_running"], pack_leases(batch.sorted_by_id())))
        locking = len(steps)
        if batch.completed:
            steps.append((self._statements["complete"], pack_completed(batch.completed)))
        if batch.others:
            steps.append((self._statements["settle"], pack_settlements(batch.others)))
        settling = len(steps)
        if claim is None:
            steps.append((self._statements["alive"], (worker.bytes,)))
        else:
            queues, priorities, marks = self._marks.lines(claim.queues)
            steps.append((self._statements["claim"], (worker.bytes, queues, priorities, marks, pack_int4(claim.limit))))
        topics: set[str] = set()

        def load(link: Link, results: list[PGresult]) -> tuple[bool, list[ClaimedJob]]:
            position = locking
            if batch.completed:
                batch.note_completed(link.load(results[position], tuple)[0])
                position += 1
            if batch.others:
                topics.update(batch.note_others(link.load(results[position], tuple)))
            if claim is None:
                return link.load(results[settling], tuple)[0][0], []
            rows = link.load(results[settling], claimed_row)
            if rows and isinstance(rows[0], bool):
                return rows[0], []
            return True, rows

        alive, claimed = await self._database.run(steps, load)
        if batch.states:
            if batch.finished:
                topics.add(FINISHED_TOPIC)
            if topics:
                self._ring(topics)
        if batch.unknown:
            await self._look_up(batch)
        if alive and claim is not None:
            self._marks.note_claimed(claim.queues, len(claimed))
        return SettleAndClaimResult([batch.states.get((s.id, s.lease)) for s in settlements], claimed, alive)

    async def _look_up(self, batch: _Batch) -> None:
        """Find what settlements led to that took effect while these waited: they were sent twice at one time."""
        unknown = batch.unknown
        rows = await self._database.fetch(
            self._statements["settled"],
            (uuids([s.id.bytes for s in unknown]), int8s([s.lease for s in unknown])),
        )
        for job_id, lease, state in rows:
            batch.states[job_id, lease] = JobState(state)

    async def mark_started(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[bool]:
        """See `QueueStorage.mark_started`."""
        if not leases:
            return []
        runs = sorted({(job_id.bytes, lease) for job_id, lease in leases})
        rows = await self._database.fetch(
            self._statements["mark_started"],
            (worker.bytes, uuids([job_id for job_id, _ in runs]), int8s([lease for _, lease in runs])),
        )
        noted = set(rows)
        return [lease in noted for lease in leases]

    async def check_leases(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[LeaseStatus]:
        """See `QueueStorage.check_leases`."""
        if not leases:
            return []
        rows = await self._database.fetch(
            self._statements["check_leases"],
            (worker.bytes, uuids([job_id.bytes for job_id, _ in leases]), int8s([lease for _, lease in leases])),
        )
        found = {
            (job_id, lease): LeaseStatus(True, None if request is None else StopRequest(request))
            for job_id, lease, request in rows
        }
        lost = LeaseStatus(False)
        return [found.get(lease, lost) for lease in leases]

    async def recover_claims(self, worker: UUID, leases: Collection[int]) -> list[ClaimedJob]:
        """See `QueueStorage.recover_claims`."""
        step: Step = (self._statements["recover_claims"], (worker.bytes, int8s(list(leases))))
        return await self._database.run([step], lambda link, results: link.load(results[0], claimed_job))

    async def progress(self, reports: Sequence[ProgressReport]) -> list[bool]:
        """See `QueueStorage.progress`."""
        if not reports:
            return []
        # Of two reports about one run, the later one is how far it is.
        last = {(report.id.bytes, report.lease): report.progress for report in reports}
        keys = sorted(last)
        told = [last[key] for key in keys]
        rows = await self._database.fetch(
            self._statements["progress"],
            (
                uuids([job_id for job_id, _ in keys]),
                int8s([lease for _, lease in keys]),
                float8s([progress.percent for progress in told]),
                texts([progress.message for progress in told]),
                jsons([None if p.details is None else msgspec.json.encode(p.details) for p in told]),
            ),
        )
        stored = set(rows)
        if stored:
            self._ring([PROGRESS_TOPIC])
        return [(report.id, report.lease) in stored for report in reports]


class _Batch:
    """Settlements, sorted by how they are settled, and what became of them."""

    def __init__(self, settlements: Sequence[Settlement]) -> None:
        self.completed: list[Settlement] = []
        self.others: list[tuple[int, Settlement]] = []
        self.states: dict[tuple[UUID, int], JobState] = {}
        self.unknown: list[Settlement] = []
        self.finished = False
        seen: set[int] = set()
        for index, settlement in enumerate(settlements):
            if settlement.lease in seen and any(
                s.lease == settlement.lease and s.id == settlement.id for s in settlements[:index]
            ):
                continue  # said twice: the first holds
            seen.add(settlement.lease)
            if settlement.ending is Ending.COMPLETE:
                self.completed.append(settlement)
            else:
                self.others.append((index, settlement))
        # Everybody locks running jobs in the order of their ids: two batches cannot wait for each other.
        self.completed.sort(key=_by_id)
        self.others.sort(key=lambda pair: pair[1].id.bytes)

    def sorted_by_id(self) -> list[Settlement]:
        """Return all of them in the order in which running jobs are locked."""
        return sorted([*self.completed, *(settlement for _, settlement in self.others)], key=_by_id)

    def note_completed(self, row: tuple[int, list[UUID] | None, list[int] | None, bytes | None]) -> None:
        """Take the answer of `complete`: how many took effect; unless all did, which, and what became of others."""
        count, ids, leases, before = row
        took: Sequence[Settlement] = self.completed
        if count < len(self.completed):
            known = set(zip(ids or (), leases or (), strict=True))
            took = [s for s in self.completed if (s.id, s.lease) in known]
            self.states |= {(UUID(job_id), lease): JobState(state) for job_id, lease, state in decode(before or b"[]")}
            self.unknown += [s for s in self.completed if (s.id, s.lease) not in known | self.states.keys()]
        for settlement in took:
            self.states[settlement.id, settlement.lease] = JobState.COMPLETED
        self.finished = self.finished or bool(took)

    def note_others(self, rows: Sequence[tuple[UUID, int, str, str | None]]) -> set[str]:
        """Take the answer of `settle`: lease, state and queue of those that took effect. Returns the topics to ring."""
        topics: set[str] = set()
        for job_id, lease, name, queue in rows:
            state = self.states[job_id, lease] = JobState(name)
            if queue is None:
                continue
            if state is _PENDING:
                topics.add(queue_topic(queue))
            elif state in _TIMED:
                topics.add(WAITING_TOPIC)
            else:
                self.finished = True
        self.unknown += [s for _, s in self.others if (s.id, s.lease) not in self.states]
        return topics


def _by_id(settlement: Settlement) -> bytes:
    return settlement.id.bytes


def pack_leases(settlements: Sequence[Settlement]) -> list[bytes | None]:
    """Pack what settlements are about as parameters: ids and leases."""
    return [uuids([s.id.bytes for s in settlements]), int8s([s.lease for s in settlements])]


def pack_completed(settlements: Sequence[Settlement]) -> list[bytes | None]:
    """Pack completions as the parameters of `complete`."""
    return [
        uuids([s.id.bytes for s in settlements]),
        int8s([s.lease for s in settlements]),
        jsons.sparse([s.result for s in settlements]),
    ]


def pack_settlements(settlements: Sequence[tuple[int, Settlement]]) -> list[bytes | None]:
    """Pack settlements as the parameters of `settle`."""
    all_ = [s for _, s in settlements]
    whens = [s.when for s in all_]
    return [
        uuids([s.id.bytes for s in all_]),
        int8s([s.lease for s in all_]),
        int4s([index for index, _ in settlements]),
        texts([s.ending.value for s in all_]),
        jsons.sparse([s.result for s in all_]),
        texts.sparse([None if s.error is None else s.error.type for s in all_]),
        texts.sparse([None if s.error is None else s.error.message for s in all_]),
        texts.sparse([None if s.error is None else s.error.traceback for s in all_]),
        moments.sparse([when if isinstance(when, datetime) else None for when in whens]),
        float8s.sparse([None if isinstance(when, datetime) else when for when in whens]),
        texts.sparse([s.reason for s in all_]),
    ]


def claimed_row(row: Sequence[Any]) -> Any:
    """Make the claimed job of a row of `claim`, or return whether the worker is alive if it has none."""
    if row[1] is None:
        return row[0]
    if row[13] is None:
        return ClaimedJob(*row[1:13])  # called for every job
    return claimed_job(row[1:])


def claimed_job(row: Sequence[Any]) -> ClaimedJob:
    """Make the claimed job of a row."""
    job = ClaimedJob(*row[:12])
    if row[12] is not None:
        job.tags = to_tags(row[12])
    return job
