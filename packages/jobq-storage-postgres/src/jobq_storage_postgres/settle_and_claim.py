"""Settling and claiming: the path of every job, in one round trip and one commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from psycopg.pq.abc import PGresult

from jobq_core.encoding import decode
from jobq_core.states import Ending, JobState
from jobq_core.storage import (
    FINISHED_TOPIC,
    WAITING_TOPIC,
    Claim,
    ClaimedJob,
    SettleAndClaimResult,
    Settlement,
    WorkerStorage,
    queue_topic,
)
from jobq_storage_postgres.binary import pack_int4
from jobq_storage_postgres.columns import pack_completed, pack_leases, pack_settlements
from jobq_storage_postgres.connection import Connection
from jobq_storage_postgres.engine import Facet
from jobq_storage_postgres.protocol import Step
from jobq_storage_postgres.reading import to_tags

_PENDING: Final = JobState.PENDING
_TIMED: Final = (JobState.SCHEDULED, JobState.BLOCKED)


class SettleAndClaim(Facet, WorkerStorage):
    """Settles runs and claims jobs."""

    async def settle_and_claim(
        self, worker: UUID, settlements: Sequence[Settlement] = (), claim: Claim | None = None
    ) -> SettleAndClaimResult:
        engine, statements = self._engine, self._engine.statements
        if claim is not None and (claim.limit <= 0 or not claim.lines):
            claim = None
        batch = _Batch(settlements)
        steps: list[Step] = []
        if batch.completed and batch.others:
            steps.append((statements["lock_running"], pack_leases(batch.sorted_by_id())))
        locking = len(steps)
        if batch.completed:
            steps.append((statements["complete"], pack_completed(batch.completed)))
        if batch.others:
            steps.append((statements["settle"], pack_settlements(batch.others)))
        settling = len(steps)
        if claim is None:
            steps.append((statements["alive"], (worker.bytes,)))
        else:
            queues, ranks, marks = engine.watermarks.lines(claim.queues)
            steps.append((statements["claim"], (worker.bytes, queues, ranks, marks, pack_int4(claim.limit))))
        topics: set[str] = set()

        def load(connection: Connection, results: list[PGresult]) -> tuple[bool, list[ClaimedJob]]:
            position = locking
            if batch.completed:
                batch.note_completed(connection.load(results[position], tuple)[0])
                position += 1
            if batch.others:
                topics.update(batch.note_others(connection.load(results[position], tuple)))
            if claim is None:
                return connection.load(results[settling], tuple)[0][0], []
            rows = connection.load(results[settling], claimed_row)
            if rows and isinstance(rows[0], bool):
                return rows[0], []
            return True, rows

        alive, claimed = await engine.database.run(steps, load)
        if batch.states:
            if batch.finished:
                topics.add(FINISHED_TOPIC)
            if topics:
                engine.notifier.notify(topics)
        if batch.unknown:
            await self._look_up(batch)
        if alive and claim is not None:
            engine.watermarks.note_claimed(claim.queues, len(claimed))
        states = [batch.states.get((s.id, s.lease)) for s in settlements]
        return SettleAndClaimResult(states, claimed, alive, picked=len(claimed))

    async def _look_up(self, batch: _Batch) -> None:
        """Find the states that the same settlements led to, where they were sent twice at the same time."""
        rows = await self._engine.fetch("settled", *pack_leases(batch.unknown))
        for job_id, lease, state in rows:
            batch.states[job_id, lease] = JobState(state)


class _Batch:
    """Settlements, split by the statement that settles them, and the states that they led to."""

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
                continue  # a repeated settlement: the first one counts
            seen.add(settlement.lease)
            if settlement.ending is Ending.COMPLETE:
                self.completed.append(settlement)
            else:
                self.others.append((index, settlement))
        # All transactions lock running jobs in the order of their ids, so that two batches cannot deadlock.
        self.completed.sort(key=_by_id)
        self.others.sort(key=lambda pair: pair[1].id.bytes)

    def sorted_by_id(self) -> list[Settlement]:
        """Return all settlements in the order in which running jobs are locked."""
        return sorted([*self.completed, *(settlement for _, settlement in self.others)], key=_by_id)

    def note_completed(self, row: tuple[int, list[UUID] | None, list[int] | None, bytes | None]) -> None:
        """Take the row of `complete`: how many took effect; unless all did, which, and the others' states."""
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
        """Take the rows of `settle`: id, lease, state and, if it took effect, queue. Returns the topics to notify."""
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


def claimed_row(row: Sequence[Any]) -> Any:
    """Return the claimed job of a row of `claim`, or whether the worker is alive if the row has no job."""
    if row[1] is None:
        return row[0]
    if row[13] is None:
        return ClaimedJob(*row[1:13])  # called for every job
    return claimed_job(row[1:])


def claimed_job(row: Sequence[Any]) -> ClaimedJob:
    """Return the claimed job of a row."""
    job = ClaimedJob(*row[:12])
    if row[12] is not None:
        job.tags = to_tags(row[12])
    return job
