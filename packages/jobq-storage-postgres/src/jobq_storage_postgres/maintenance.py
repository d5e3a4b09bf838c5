"""The keeper's facet of the storage: the maintenance that one worker does for all."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from jobq_core.errors import StorageUnavailableError, WorkerLostError
from jobq_core.records import type_name
from jobq_core.states import JobState
from jobq_core.storage import (
    FINISHED_TOPIC,
    REQUEST_TOPIC,
    KeeperStorage,
    Leadership,
    LostWorker,
    Promotion,
    Rescue,
    RescuedJob,
    Retention,
    queue_topic,
)
from jobq_storage_postgres.binary import float8s, pack_float8, pack_int4, pack_int8, pack_moment, pack_text, texts
from jobq_storage_postgres.engine import Facet
from jobq_storage_postgres.schedules import TOO_LARGE

MOVED: Final = 5000
"""Maximum number of jobs that are moved out of a partition to drop it; others that use its tables wait meanwhile."""

LOOKED_AT: Final = 100_000
"""Maximum number of finished jobs of a queue, kind and state that one prune looks at."""

_LOST: Final = pack_text(type_name(WorkerLostError))
_SILENT: Final = pack_text(" missed its heartbeat")
_log = logging.getLogger("jobq.postgres")


class Maintenance(Facet, KeeperStorage):
    """Leads, promotes, rescues and prunes."""

    async def lead(self, worker: UUID, term: float) -> Leadership:
        before = self._engine.clock_steps.clock()
        ((leads, expires_in, now),) = await self._engine.fetch("lead", worker.bytes, pack_float8(term))
        await self._extend_leases(now, before)
        self._engine.clock_steps.keep(now, before)
        return Leadership(leads, expires_in)

    async def _extend_leases(self, now: datetime, before: float) -> bool:
        """Extend the leases of all workers if the clock was set forward; return whether it was.

        before: this machine's time before the storage's time was asked for.
        """
        step = self._engine.clock_steps.compare(now, before)
        if step is None:
            return False
        rows = await self._engine.fetch("shift_leases", pack_float8(step.seconds), pack_moment(step.old_time))
        _log.warning(
            "the clock of the database was set forward by %.1f s; extended the leases of %d workers",
            step.seconds,
            len(rows),
        )
        return True

    async def resign(self, worker: UUID) -> None:
        await self._engine.fetch("resign", worker.bytes)

    async def promote(self, limit: int = 1000) -> Promotion:
        since = self._engine.promotions.since()
        rows, ((next_in, now),) = await self._engine.fetch_all(
            ("promote", (pack_int8(limit), since)), ("next_due", (since,))
        )
        promoted = sum(count for _, count in rows)
        self._engine.promotions.record(since, now, more=promoted >= limit)
        self._engine.notifier.notify([queue_topic(queue) for queue, _ in rows])
        return Promotion(promoted, next_in)

    async def rescue(self) -> Rescue:
        # Also finds the jobs that claims skipped.
        rows, swept, _ = await self._engine.fetch_all(
            ("rescue", (_LOST, _SILENT)), ("sweep", ()), ("forget_skipped", ())
        )
        lost: dict[UUID, tuple[str, float, list[RescuedJob]]] = {}
        topics = {queue_topic(queue) for queue, _ in swept}
        for worker, name, silent_for, job_id, kind, queue, attempt, state in rows:
            jobs = lost.setdefault(worker, (name, silent_for, []))[2]
            if job_id is None:
                continue
            after = JobState(state)
            jobs.append(RescuedJob(id=job_id, kind=kind, queue=queue, attempt=attempt, state=after))
            topics.add(REQUEST_TOPIC)
            topics.add(queue_topic(queue) if after is JobState.PENDING else FINISHED_TOPIC)
        self._engine.notifier.notify(topics)
        return Rescue(
            [
                LostWorker(worker=worker, name=name, silent_for=silent_for, jobs=jobs)
                for worker, (name, silent_for, jobs) in lost.items()
            ]
        )

    async def set_retention(self, retention: Mapping[str, Retention]) -> None:
        if not retention:
            return
        kept = list(retention.values())
        await self._engine.fetch(
            "set_retention",
            texts(list(retention)),
            float8s([r.completed for r in kept]),
            float8s([r.failed for r in kept]),
            float8s([r.aborted for r in kept]),
        )

    async def prune(self, limit: int = 10_000) -> int:
        default = Retention()
        retention = [
            None if seconds is None else pack_float8(seconds)
            for seconds in (default.completed, default.failed, default.aborted)
        ]
        pruning = self._engine.pruning
        prune = (pack_int8(limit), *retention, pack_int8(LOOKED_AT), *pruning.params())
        rows, _ = await self._engine.fetch_all(("prune", prune), ("fold_tally", ()))
        pruned = pruning.record(rows)
        if pruned:
            self._engine.notifier.notify([FINISHED_TOPIC])
        if self._engine.partitions.is_due():
            await self._maintain_partitions()
        return pruned

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
