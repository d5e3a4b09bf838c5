"""Rescuing jobs from lost workers, worker by worker."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from jobq_core.errors import StorageError, WorkerLostError
from jobq_core.records import type_name
from jobq_core.states import JobState
from jobq_core.storage import (
    ENDED_TOPIC,
    REQUEST_TOPIC,
    KeeperStorage,
    LostWorker,
    Rescue,
    RescuedJob,
    queue_topic,
)
from jobq_storage_postgres.binary import pack_float8, pack_moment, pack_text, uuids
from jobq_storage_postgres.engine import Engine, Facet
from jobq_storage_postgres.topics import topic_of_state

AGAIN_SECONDS: Final = 0.5
"""When to rescue again if another transaction holds rows."""

_LOST: Final = pack_text(type_name(WorkerLostError))
_SILENT: Final = pack_text(" missed its heartbeat")
_log = logging.getLogger("jobq.postgres")


class Rescuing(Facet, KeeperStorage):
    """Removes lost workers and rescues their jobs. No statement waits for a row."""

    async def rescue(self) -> Rescue:
        # Also finds the jobs that claims skipped.
        ((_, _, next_in), *found), swept, _, ((unseen,),) = await self._engine.fetch_all(
            ("lost_workers", ()), ("sweep", ()), ("forget_skipped", ()), ("any_skipped", ())
        )
        self._engine.notifier.notify({queue_topic(queue) for queue, _ in swept})
        if found and await self._clock_moved():
            (_, _, next_in), *found = await self._engine.fetch("lost_workers")
        workers: list[LostWorker] = []
        failed: StorageError | None = None
        for worker, jobs, _ in found:
            try:
                removed, lost = await self._rescue_from(worker, jobs)
            except StorageError as error:
                failed = error
                _log.warning("could not rescue the jobs of worker %s: %s", worker, error)
                continue
            unseen = unseen or len(lost.jobs) < len(jobs)
            if removed or lost.jobs:
                workers.append(lost)
        if failed is not None and not workers:
            raise failed
        if unseen or failed is not None:
            next_in = AGAIN_SECONDS if next_in is None else min(next_in, AGAIN_SECONDS)
        return Rescue(workers, next_in)

    async def _clock_moved(self) -> bool:
        """Return whether workers seem lost because the clock was set forward, and extend their leases."""
        before = self._engine.clock_steps.clock()
        ((now,),) = await self._engine.fetch("now")
        return await extend_leases(self._engine, now, before)

    async def _rescue_from(self, worker: UUID, jobs: Sequence[UUID]) -> tuple[bool, LostWorker]:
        """Rescue jobs from one worker; return whether it was removed here too."""
        ids = uuids([job_id.bytes for job_id in jobs])
        (name, silent_for, followed, *_), *rows = await self._engine.fetch("rescue", worker.bytes, ids, _LOST, _SILENT)
        rescued: list[RescuedJob] = []
        topics = {ENDED_TOPIC} if followed else set()
        for _, _, _, job_id, kind, queue, attempt, state in rows:
            after = JobState(state)
            rescued.append(RescuedJob(id=job_id, kind=kind, queue=queue, attempt=attempt, state=after))
            topics.add(REQUEST_TOPIC)
            topics.add(topic_of_state(after, queue))
        self._engine.notifier.notify(topics)
        lost = LostWorker(worker=worker, name=name or "", silent_for=silent_for or 0.0, jobs=rescued)
        return name is not None, lost


async def extend_leases(engine: Engine, now: datetime, before: float) -> bool:
    """Extend the leases of all workers if the database's clock was set forward; return whether it was.

    before: this machine's time before the database's time, now, was asked for.
    """
    step = engine.clock_steps.compare(now, before)
    if step is None:
        return False
    rows = await engine.fetch("shift_leases", pack_float8(step.seconds), pack_moment(step.old_time))
    engine.clock_steps.keep(now, before)
    _log.warning(
        "the clock of the database was set forward by %.1f s; extended the leases of %d workers",
        step.seconds,
        len(rows),
    )
    return True
