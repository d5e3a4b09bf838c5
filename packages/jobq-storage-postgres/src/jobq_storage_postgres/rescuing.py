"""Rescuing jobs from lost workers, worker by worker."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from jobq_core.errors import StorageError, WorkerLostError
from jobq_core.records import type_name
from jobq_core.states import JobState
from jobq_core.storage import (
    FINISHED_TOPIC,
    REQUEST_TOPIC,
    WAITING_TOPIC,
    KeeperStorage,
    LostWorker,
    Rescue,
    RescuedJob,
    queue_topic,
)
from jobq_storage_postgres.binary import pack_text, uuids
from jobq_storage_postgres.engine import Facet

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

    async def _rescue_from(self, worker: UUID, jobs: Sequence[UUID]) -> tuple[bool, LostWorker]:
        """Rescue jobs from one worker; return whether it was removed here too."""
        ids = uuids([job_id.bytes for job_id in jobs])
        (name, silent_for, *_), *rows = await self._engine.fetch("rescue", worker.bytes, ids, _LOST, _SILENT)
        rescued: list[RescuedJob] = []
        topics: set[str] = set()
        for _, _, job_id, kind, queue, attempt, state in rows:
            after = JobState(state)
            rescued.append(RescuedJob(id=job_id, kind=kind, queue=queue, attempt=attempt, state=after))
            topics.add(REQUEST_TOPIC)
            topics.add(_topic(queue, after))
        self._engine.notifier.notify(topics)
        lost = LostWorker(worker=worker, name=name or "", silent_for=silent_for or 0.0, jobs=rescued)
        return name is not None, lost


def _topic(queue: str, state: JobState) -> str:
    if state is JobState.PENDING:
        return queue_topic(queue)
    return WAITING_TOPIC if state is JobState.BLOCKED else FINISHED_TOPIC
