"""Settling and claiming: the path of every job, in one round trip and one commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from msgspec import Struct
from psycopg.pq.abc import PGresult

from jobq_core.encoding import decode
from jobq_core.errors import StorageUnavailableError
from jobq_core.storage import (
    WAITING_TOPIC,
    Claim,
    ClaimedJob,
    SettleAndClaimResult,
    Settlement,
    WorkerStorage,
    queue_topic,
)
from jobq_storage_postgres.binary import pack_int4, pack_int8, texts
from jobq_storage_postgres.connection import Connection
from jobq_storage_postgres.engine import Facet
from jobq_storage_postgres.programs import Last, Rows, drive, part
from jobq_storage_postgres.protocol import Step
from jobq_storage_postgres.reading import to_tags
from jobq_storage_postgres.settling import Settling, settle
from jobq_storage_postgres.topics import topics_of
from jobq_storage_postgres.transaction import Transaction
from jobq_storage_postgres.unique_keys import add_unique

_CLAIMS: Final = 10
"""How often a claim is sent again because new lines were registered meanwhile."""


class Header(Struct, frozen=True):
    """The first row of a claim, see claim.sql."""

    alive: bool
    fresh: bool = True
    picked: int = 0
    more: bool = False
    paused: Sequence[str] = ()


class Claimed(Struct, frozen=True):
    """What a claim took, and how many jobs its kinds freed before."""

    header: Header
    jobs: list[ClaimedJob]
    freed: int = 0


class SettleAndClaim(Facet, WorkerStorage):
    """Settles runs and claims jobs."""

    async def settle_and_claim(
        self, worker: UUID, settlements: Sequence[Settlement] = (), claim: Claim | None = None
    ) -> SettleAndClaimResult:
        if claim is not None and (claim.limit <= 0 or not claim.lines):
            claim = None
        settling = Settling(settlements)
        topics: set[str] = set()
        if any(settlement.jobs for settlement in settlements):
            claimed = await self._with_children(worker, settling, claim, topics)
        else:
            steps = settling.steps(self._engine.statements)
            claimed = await self._run(worker, settling, steps, claim, topics)
        topics |= settling.topics
        if topics:
            self._engine.notifier.notify(topics)
        freed = claimed.freed
        if claim is not None and not claimed.header.fresh:
            claimed = await self._claim_again(worker, Claim(claim.lines, claim.limit, claim.max_bytes))
        header = claimed.header
        if claim is not None and header.alive:
            self._engine.watermarks.note_claimed(header.picked)
        return SettleAndClaimResult(
            [settling.states.get((s.id, s.lease)) for s in settlements],
            claimed.jobs,
            header.alive,
            settling.busy(settlements),
            header.picked,
            tuple(queue for queue in claim.queues if queue in header.paused) if claim and header.paused else (),
            freed,
            header.more,
        )

    async def _claim_again(self, worker: UUID, claim: Claim) -> Claimed:
        """Claim after reading the lines that were registered meanwhile."""
        for _ in range(_CLAIMS):
            await self._engine.watermarks.read()
            claimed = await self._run(worker, Settling(()), [], claim, set())
            if claimed.header.fresh:
                return claimed
        raise StorageUnavailableError("new lines of jobs were added faster than they could be read")

    async def _run(
        self, worker: UUID, settling: Settling, steps: list[Step], claim: Claim | None, topics: set[str]
    ) -> Claimed:
        """Settle and claim in one round trip."""
        settled = len(steps)
        steps += await self._claiming(worker, claim)

        def load(connection: Connection, results: list[PGresult]) -> Claimed:
            answers = [connection.load(result, tuple) for result in results]
            settling.take(answers[:settled])
            return _claimed(claim, answers[settled:], topics)

        return await self._engine.database.run(steps, load)

    async def _with_children(self, worker: UUID, settling: Settling, claim: Claim | None, topics: set[str]) -> Claimed:
        """Settle, add the jobs of the settlements that took effect, and claim, in one transaction."""
        engine = self._engine
        await engine.lines.ensure([job for s in settling.settlements for job in s.jobs])
        claiming = await self._claiming(worker, claim)

        async def work(transaction: Transaction) -> Claimed:
            await drive(part(settle(engine.statements, settling)), transaction.run)
            jobs = settling.children()
            added = await drive(part(add_unique(engine.statements, jobs)), transaction.run) if jobs else []
            made = [job for job, answer in zip(jobs, added, strict=True) if answer.created]
            topics.clear()
            topics.update(topics_of(made))
            return _claimed(claim, await transaction.run(Last(claiming)), topics)

        return await engine.database.transact(work)

    async def _claiming(self, worker: UUID, claim: Claim | None) -> list[Step]:
        """Return the statements that free and claim jobs."""
        statements = self._engine.statements
        if claim is None:
            return [(statements["alive"], (worker.bytes,))]
        steps: list[Step] = []
        lines = await self._engine.watermarks.lines(claim.lines)
        limit = pack_int4(claim.limit)
        if claim.kinds:
            kinds, declarations = zip(*claim.kinds, strict=True)
            params = (worker.bytes, lines[0], texts(kinds), texts(declarations), limit)
            steps.append((statements["free_kinds"], params))
        size = None if claim.max_bytes is None else pack_int8(claim.max_bytes)
        steps.append((statements["claim"], (worker.bytes, *lines[:6], limit, size, *lines[6:])))
        return steps


def _claimed(claim: Claim | None, answers: Rows, topics: set[str]) -> Claimed:
    """Return what the answers to the statements of `_claiming` tell, and add the topics to notify."""
    *before, rows = answers
    if claim is None:
        return Claimed(Header(rows[0][0]), [])
    freed = 0
    for queue, count, pending in before[0] if claim.kinds else ():
        freed += count
        topics.add(queue_topic(queue) if pending else WAITING_TOPIC)
    header, *jobs = map(claimed_row, rows)
    return Claimed(header, jobs, freed)


def claimed_row(row: Sequence[Any]) -> Any:
    """Return the claimed job of a row of `claim`, or the header of its first row."""
    if row[1] is None:
        return Header(**decode(row[0]))
    if row[13] is None and row[14] is None:
        return ClaimedJob(*row[1:13])  # called for every job
    return claimed_job(row[1:])


def claimed_job(row: Sequence[Any]) -> ClaimedJob:
    """Return the claimed job of a row."""
    job = ClaimedJob(*row[:12])
    job.tags = to_tags(row[12])
    job.meta = row[13]
    return job
