"""The keeper's facet of the storage: the maintenance that one worker does for all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from jobq_core.errors import StorageUnavailableError
from jobq_core.records import deadline_passed
from jobq_core.states import JobState
from jobq_core.storage import (
    AUDIT_DAYS,
    ENDED_TOPIC,
    FINISHED_TOPIC,
    REQUEST_SECONDS,
    WAITING_TOPIC,
    EndedJob,
    Expired,
    FailedJob,
    Follow,
    KeeperStorage,
    Leadership,
    NewJob,
    Promotion,
    Retention,
    queue_topic,
)
from jobq_core.storage.statistics import STEPS
from jobq_storage_postgres.adding_programs import add
from jobq_storage_postgres.binary import (
    int4s,
    pack_float8,
    pack_int4,
    pack_int8,
    pack_text,
    uuids,
)
from jobq_storage_postgres.engine import Facet
from jobq_storage_postgres.lines import register_step
from jobq_storage_postgres.programs import drive
from jobq_storage_postgres.rescuing import extend_leases
from jobq_storage_postgres.schedules import TOO_LARGE
from jobq_storage_postgres.topics import topics_of
from jobq_storage_postgres.transaction import Transaction

MOVED: Final = 5000
"""Maximum number of jobs that are moved out of a partition to drop it; others that use its tables wait meanwhile."""

LOOKED_AT: Final = 100_000
"""Maximum number of finished jobs of a queue, kind and state that one prune looks at."""

FOLDED: Final = 20_000
"""Maximum number of rows of the tally that one statement sums up."""

UNSEEN_SECONDS: Final = 0.5
"""When to promote again while jobs may appear below a position that claims skip."""

_KEPT: Final = int4s(list(STEPS)), int4s(list(STEPS.values()))
"""The steps of statistics and depths, and how many seconds each is kept."""

_log = logging.getLogger("jobq.postgres")


class Maintenance(Facet, KeeperStorage):
    """Leads, promotes, expires, admits and prunes."""

    async def lead(self, worker: UUID, term: float) -> Leadership:
        before = self._engine.clock_steps.clock()
        ((leads, expires_in, now),) = await self._engine.fetch("lead", worker.bytes, pack_float8(term))
        await extend_leases(self._engine, now, before)
        self._engine.clock_steps.keep(now, before)
        return Leadership(leads, expires_in)

    async def resign(self, worker: UUID) -> None:
        await self._engine.fetch("resign", worker.bytes)

    async def promote(self, limit: int = 1000) -> Promotion:
        # Also finds the jobs that claims skipped.
        since = self._engine.promotions.since()
        rows, swept, _, ((next_in, now, unseen),) = await self._engine.fetch_all(
            ("promote", (pack_int8(limit), since)), ("sweep", ()), ("forget_skipped", ()), ("next_due", (since,))
        )
        promoted = sum(count for _, count, _ in rows)
        self._engine.promotions.record(since, now, more=promoted >= limit)
        topics = {queue_topic(queue) if pending else WAITING_TOPIC for queue, _, pending in rows}
        self._engine.notifier.notify(topics | {queue_topic(queue) for queue, _ in swept})
        if unseen:
            next_in = UNSEEN_SECONDS if next_in is None else min(next_in, UNSEEN_SECONDS)
        return Promotion(promoted, next_in)

    async def expire(self, limit: int = 1000) -> Expired:
        since = self._engine.expirations.since()
        error = deadline_passed()
        params = pack_int8(limit), since, pack_text(error.type), pack_text(error.message)
        ((count, followed),), ((next_in, now),) = await self._engine.fetch_all(
            ("expire", params), ("next_deadline", (since,))
        )
        self._engine.expirations.record(since, now, more=count >= limit)
        if count:
            self._engine.notifier.notify([FINISHED_TOPIC, ENDED_TOPIC] if followed else [FINISHED_TOPIC])
        return Expired(count, next_in)

    async def admit(self, ids: Sequence[UUID]) -> int:
        if not ids:
            return 0
        order = list(dict.fromkeys(ids))
        by_id = sorted(range(len(order)), key=lambda index: order[index].bytes)
        rows = await self._engine.fetch("admit", uuids([order[index].bytes for index in by_id]), int4s(by_id))
        self._engine.notifier.notify([queue_topic(queue) for queue, _ in rows])
        return sum(count for _, count in rows)

    async def resolve(self, limit: int = 1000, follow: Follow | None = None) -> list[EndedJob]:
        added: list[NewJob] = []

        async def work(transaction: Transaction) -> list[EndedJob]:
            statements = self._engine.statements
            (rows,) = await transaction.run([(statements["resolve"], (pack_int8(limit),))])
            ended = [_to_ended(*row) for row in rows]
            try:
                added[:] = follow(ended) if ended and follow is not None else ()
            except Exception:
                await transaction.rollback()  # at once, for the next call
                raise
            if added:
                await transaction.run([register_step(statements, {(job.queue, job.priority) for job in added})])
                await drive(add(statements, added), transaction.run)
            return ended

        ended = await self._engine.database.transact(work)
        self._engine.notifier.notify(topics_of(added))
        return ended

    async def prune(self, limit: int = 10_000) -> int:
        default = Retention()
        retention = [
            None if seconds is None else pack_float8(seconds)
            for seconds in (default.completed, default.failed, default.aborted)
        ]
        pruning = self._engine.pruning
        prune = (pack_int8(limit), *retention, pack_int8(LOOKED_AT), *pruning.params())
        rows, ((folded,),), *_ = await self._engine.fetch_all(
            ("prune", prune),
            ("fold_tally", (pack_int4(FOLDED), *_KEPT)),
            ("forget_depths", _KEPT),
            ("forget_records", (pack_float8(AUDIT_DAYS * 86_400.0), pack_float8(REQUEST_SECONDS), pack_int8(limit))),
        )
        pruned = pruning.record(rows)
        while folded >= FOLDED:
            ((folded,),) = await self._engine.fetch("fold_tally", pack_int4(FOLDED), *_KEPT)
        if pruned:
            self._engine.notifier.notify([FINISHED_TOPIC])
        if self._engine.partitions.is_due():
            await self._maintain_partitions()
        return int(pruned)

    async def _maintain_partitions(self) -> None:
        """Make the partitions that will be needed, and drop those that are over."""
        schedule = self._engine.partitions
        for name, params in (("make_partitions", ()), ("drop_partitions", (pack_int4(MOVED),))):
            try:
                ((done,),) = await self._engine.fetch(name, *params)
            except StorageUnavailableError as error:
                # A long wait for the tables' locks would hold up all others. The next check tries again.
                _log.info("postponed %s: %s", name, error)
            else:
                if name == "make_partitions":
                    if done is None and not schedule.too_large:
                        _log.warning(TOO_LARGE)
                    schedule.too_large = done is None


def _to_ended(job_id: UUID, queue: str, state: str | None, at: datetime, failed: bytes | None) -> EndedJob:
    return EndedJob(
        job_id,
        queue,
        None if state is None else JobState(state),
        at,
        None if failed is None else msgspec.json.decode(failed, type=FailedJob),
    )
