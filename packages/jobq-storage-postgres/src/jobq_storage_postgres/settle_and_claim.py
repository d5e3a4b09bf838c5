"""Settling and claiming: the path of every job, in one round trip and one commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias
from uuid import UUID

from msgspec import Struct, field
from psycopg.pq.abc import PGresult

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
from jobq_storage_postgres.binary import int4s, int8s, pack_int4, pack_int8, texts, uuids
from jobq_storage_postgres.connection import Connection
from jobq_storage_postgres.engine import Facet
from jobq_storage_postgres.programs import Last, Rows, drive, part
from jobq_storage_postgres.protocol import Step
from jobq_storage_postgres.records import to_tags
from jobq_storage_postgres.settling import Settling, settle
from jobq_storage_postgres.sql import Statements
from jobq_storage_postgres.topics import topics_of
from jobq_storage_postgres.transaction import Transaction
from jobq_storage_postgres.unique_keys import add_unique
from jobq_storage_postgres.watermarks import Lines

_CLAIMS: Final = 10
"""How often a claim is sent again because new lines were registered meanwhile."""

_NO_LIMITS: Final = int4s([])

Ghost: TypeAlias = "tuple[UUID, int]"
"""Id and lease of a run whose job was deleted by hand."""


class Claimed(Struct, frozen=True):
    """What a claim took, and how many jobs its kinds freed before.

    said: 'lost', 'stale', 'more' or None, see claim.sql. paused: the queues that it left out.
    """

    said: str | None
    jobs: list[ClaimedJob] = field(default_factory=list)
    ghosts: Sequence[Ghost] = ()
    paused: tuple[str, ...] = ()
    freed: int = 0

    @property
    def is_inconclusive(self) -> bool:
        """Whether nothing was taken although there may be jobs, so that the claim has to be sent again."""
        return self.said == "stale" or (self.said == "more" and not self.jobs and not self.ghosts)


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
        if claim is not None and claimed.is_inconclusive:
            claimed = await self._claim_again(worker, Claim(claim.lines, claim.limit, claim.max_bytes), claimed)
        picked = len(claimed.jobs) + len(claimed.ghosts)
        if claimed.ghosts:
            ids, leases = zip(*claimed.ghosts, strict=True)
            await self._engine.fetch("drop_ghosts", uuids([job_id.bytes for job_id in ids]), int8s(leases))
        alive = claimed.said != "lost"
        if claim is not None and alive:
            self._engine.watermarks.note_claimed(picked)
        return SettleAndClaimResult(
            settling.states(settlements),
            claimed.jobs,
            alive,
            settling.busy(settlements),
            picked,
            claimed.paused,
            freed,
            claimed.said == "more",
        )

    async def complete(self, settlement: Settlement, *, connection: Any) -> None:
        self._engine.pool.check_open()
        await self._engine.caller_connections.complete(connection, settlement)

    async def _claim_again(self, worker: UUID, claim: Claim, claimed: Claimed) -> Claimed:
        """Claim what fits, after reading the lines that were registered meanwhile."""
        for _ in range(_CLAIMS):
            if claimed.said == "stale":
                await self._engine.watermarks.read()
            claimed = await self._run(worker, Settling(()), [], claim, set(), large=True)
            if claimed.said != "stale":
                return claimed
        raise StorageUnavailableError("new lines of jobs were added faster than they could be read")

    async def _run(
        self,
        worker: UUID,
        settling: Settling,
        steps: list[Step],
        claim: Claim | None,
        topics: set[str],
        *,
        large: bool = False,
    ) -> Claimed:
        """Settle and claim in one round trip. large: whether the jobs may be of more bytes than the limit."""
        settled = len(steps)
        claiming, paused = await self._claiming(worker, claim, large=large)
        steps += claiming

        def load(connection: Connection, results: list[PGresult]) -> Claimed:
            *before, last = results
            answers = [connection.load(result, tuple) for result in before]
            settling.take(answers[:settled])
            said = last.get_value(0, 0)
            rows = connection.load(last, claimed_row)
            return _claimed(None if said is None else said.decode(), rows, paused, answers[settled:], topics)

        return await self._engine.database.run(steps, load)

    async def _with_children(self, worker: UUID, settling: Settling, claim: Claim | None, topics: set[str]) -> Claimed:
        """Settle, add the jobs of the settlements that took effect, and claim, in one transaction."""
        engine = self._engine
        await engine.lines.ensure([job for s in settling.settlements for job in s.jobs])
        claiming, paused = await self._claiming(worker, claim)

        async def work(transaction: Transaction) -> Claimed:
            await drive(part(settle(engine.statements, settling)), transaction.run)
            jobs = settling.children()
            added = await drive(part(add_unique(engine.statements, jobs)), transaction.run) if jobs else []
            made = [job for job, answer in zip(jobs, added, strict=True) if answer.created]
            topics.clear()
            topics.update(topics_of(made))
            *before, rows = await transaction.run(Last(claiming))
            return _claimed(rows[0][0], [claimed_row(row) for row in rows], paused, before, topics)

        return await engine.database.transact(work)

    async def _claiming(
        self, worker: UUID, claim: Claim | None, *, large: bool = False
    ) -> tuple[list[Step], tuple[str, ...]]:
        """Return the statements that free and claim jobs, and the queues that are paused."""
        statements = self._engine.statements
        if claim is None:
            return [(statements["alive"], (worker.bytes,))], ()
        steps: list[Step] = []
        lines = await self._engine.watermarks.lines(claim.lines)
        limit = pack_int4(claim.limit)
        if claim.kinds:
            kinds, declarations = zip(*claim.kinds, strict=True)
            params = (worker.bytes, lines.asked, texts(kinds), texts(declarations), limit)
            steps.append((statements["free_kinds"], params))
        size = None if claim.max_bytes is None else pack_int8(claim.max_bytes)
        return [*steps, claim_step(statements, worker, lines, limit, size, large=large)], lines.paused


def claim_step(
    statements: Statements, worker: UUID, lines: Lines, limit: bytes, size: bytes | None, *, large: bool = False
) -> Step:
    """Return the statement that claims jobs of these lines.

    limit: the most jobs. size: the most bytes, or None. large: whether to take what fits if not all do, else nothing.
    """
    params = worker.bytes, lines.asked, lines.queues, lines.ranks, lines.marks, limit, size, *lines.known
    if lines.limits is None and not large:
        return statements["claim"], params
    return statements["claim_limited"], (*params, lines.limits or _NO_LIMITS)


def _claimed(
    said: str | None,
    rows: Sequence[ClaimedJob | Ghost | None],
    paused: tuple[str, ...],
    freeing: Rows,
    topics: set[str],
) -> Claimed:
    """Return what the answers to the statements of `_claiming` tell, and add the topics to notify.

    rows: those of the claim, as `claimed_row` returns them. freeing: those of `free_kinds`, if it was sent.
    """
    freed = 0
    for queue, count, pending in freeing[0] if freeing else ():
        freed += count
        topics.add(queue_topic(queue) if pending else WAITING_TOPIC)
    jobs = [row for row in rows if type(row) is ClaimedJob]
    ghosts = [row for row in rows if isinstance(row, tuple)] if len(jobs) < len(rows) else ()
    return Claimed(said, jobs, ghosts, paused, freed)


def claimed_row(row: Sequence[Any]) -> ClaimedJob | Ghost | None:
    """Return the job of a row of `claim`, the run if the job was deleted by hand, or None for a row without a job."""
    if row[4] is None:
        return None if row[1] is None else (row[1], row[2])
    if row[13] is None and row[14] is None:
        return ClaimedJob(*row[1:13])  # called for every job
    return claimed_job(row[1:])


def claimed_job(row: Sequence[Any]) -> ClaimedJob:
    """Return the claimed job of a row."""
    job = ClaimedJob(*row[:12])
    job.tags = to_tags(row[12])
    job.meta = row[13]
    return job
