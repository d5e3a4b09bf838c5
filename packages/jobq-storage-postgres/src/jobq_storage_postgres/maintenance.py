"""The maintenance that one worker does for all: what is due, what was lost, and what is over."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from jobq_core.errors import StorageUnavailableError, WorkerLostError
from jobq_core.records import type_name
from jobq_core.states import JobState
from jobq_core.storage import (
    FINISHED_TOPIC,
    REQUEST_TOPIC,
    LostWorker,
    Promotion,
    RescuedJob,
    Retention,
    queue_topic,
)
from jobq_storage_postgres.binary import float8s, pack_float8, pack_int4, pack_int8, pack_moment, pack_text, texts
from jobq_storage_postgres.database import Database
from jobq_storage_postgres.notifier import Ring
from jobq_storage_postgres.sql import Statements

_LOST: Final = pack_text(type_name(WorkerLostError))
LATE: Final = timedelta(seconds=60)
"""How long before the last promotion jobs may have been due that it did not see, their transaction being open still.

What was due before is looked at once in so long only: under a pinned snapshot it is all dead rows.
"""
ALWAYS: Final = pack_int8(-(2**63))
"""The timestamp '-infinity'."""
PARTITIONS_EVERY: Final = 600.0
"""Seconds between two looks at the partitions of `job` and `outcome`."""
MOVED: Final = 5000
"""Jobs at most that are moved out of a partition to drop it; whoever works on its tables waits meanwhile."""

_log = logging.getLogger("jobq.postgres")
_SILENT: Final = pack_text(" missed its heartbeat")


class Upkeep:
    """Promotes, rescues and prunes."""

    def __init__(self, database: Database, statements: Statements, ring: Ring) -> None:
        self._database = database
        self._statements = statements
        self._ring = ring
        self._partitions_due = 0.0
        self._promoted_at: datetime | None = None
        self._all_due = 0.0

    async def promote(self, limit: int) -> Promotion:
        """See `QueueStorage.promote`."""
        since = ALWAYS if self._promoted_at is None else pack_moment(self._promoted_at - LATE)
        if time.monotonic() >= self._all_due:
            since = ALWAYS
        rows, ((next_in, now),) = await self._database.fetch_all(
            [(self._statements["promote"], (pack_int8(limit), since)), (self._statements["next_due"], (since,))]
        )
        promoted = sum(count for _, count in rows)
        if promoted >= limit:
            self._promoted_at = None  # there may be more, of whatever age
        else:
            self._promoted_at = now
            if since is ALWAYS:
                self._all_due = time.monotonic() + LATE.total_seconds()
        self._ring([queue_topic(queue) for queue, _ in rows])
        return Promotion(promoted, next_in)

    async def rescue(self) -> list[LostWorker]:
        """See `QueueStorage.rescue`; also finds the jobs that claims passed."""
        rows, swept, _ = await self._database.fetch_all(
            [
                (self._statements["rescue"], (_LOST, _SILENT)),
                (self._statements["sweep"], ()),
                (self._statements["forget_skipped"], ()),
            ]
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
        self._ring(topics)
        return [
            LostWorker(worker=worker, name=name, silent_for=silent_for, jobs=jobs)
            for worker, (name, silent_for, jobs) in lost.items()
        ]

    async def set_retention(self, retention: Mapping[str, Retention]) -> None:
        """See `QueueStorage.set_retention`."""
        if not retention:
            return
        kept = list(retention.values())
        await self._database.fetch(
            self._statements["set_retention"],
            (
                texts(list(retention)),
                float8s([r.completed for r in kept]),
                float8s([r.failed for r in kept]),
                float8s([r.aborted for r in kept]),
            ),
        )

    async def prune(self, limit: int) -> int:
        """See `QueueStorage.prune`."""
        default = Retention()
        rows, _ = await self._database.fetch_all(
            [
                (
                    self._statements["prune"],
                    (
                        pack_int8(limit),
                        *(
                            None if seconds is None else pack_float8(seconds)
                            for seconds in (default.completed, default.failed, default.aborted)
                        ),
                    ),
                ),
                (self._statements["fold_tally"], ()),
            ]
        )
        pruned: int = rows[0][0]
        if pruned:
            self._ring([FINISHED_TOPIC])
        if time.monotonic() >= self._partitions_due:
            self._partitions_due = time.monotonic() + PARTITIONS_EVERY
            await self.tend_partitions()
        return pruned

    async def tend_partitions(self) -> None:
        """Make the partitions that will be needed, and drop those that are over."""
        for name, params in (("make_partitions", ()), ("drop_partitions", (pack_int4(MOVED),))):
            try:
                await self._database.fetch(self._statements[name], params)
            except StorageUnavailableError as error:
                # Somebody has the tables: they are not waited for, since others would wait behind. Next time, then.
                _log.info("%s is put off: %s", name, error)
